/// Large draws, chunk by chunk.
#include <samplerd/client.hpp>

#include <algorithm>
#include <chrono>
#include <optional>
#include <vector>

#include "features.hpp"

namespace conformance {
namespace {

namespace v1 = samplerd::v1;
using grpc::StatusCode;
using std::chrono::milliseconds;

constexpr std::uint32_t kEndless = 2'000'000'000;

/// What came of a draw.
struct Drawn {
  int chunks = 0;
  std::optional<samplerd::Error> error;
};

v1::SampleRequest from(const std::string& name) {
  v1::SampleRequest request;
  request.set_distribution(name);
  return request;
}

Drawn count(const samplerd::Client& client, const v1::SampleRequest& request,
            milliseconds wait = std::chrono::seconds(20)) {
  samplerd::CallOptions call;
  call.timeout = wait;
  Drawn drawn;
  try {
    samplerd::Chunks chunks = client.draw_chunks(request, call);
    for (const samplerd::Chunk& chunk : chunks) {
      expect(static_cast<int>(chunk.response().chunk()) == drawn.chunks, "chunks out of order");
      ++drawn.chunks;
    }
  } catch (const samplerd::Error& error) {
    drawn.error = error;
  }
  return drawn;
}

void expect_drawn(const std::string& what, const Drawn& drawn, int chunks, StatusCode code) {
  const StatusCode found = drawn.error ? drawn.error->code() : StatusCode::OK;
  expect(found == code, what + " ended with " + std::to_string(found));
  expect(drawn.chunks == chunks, what + " gave " + std::to_string(drawn.chunks) + " chunks");
}

void check_case(const samplerd::Client& client, const std::string& name, const Json& one) {
  auto request = from(name);
  request.set_seed(one.at("seed"));
  request.set_draw_offset(one.at("draw_offset"));
  request.set_num_samples(one.at("num_samples"));
  request.mutable_params()->set_temperature(one.at("temperature"));
  request.mutable_outputs()->set_raw_samples(request.draw_offset() > 0);
  std::vector<std::int32_t> ids;
  std::uint32_t number = 0;
  bool is_final = false;
  samplerd::Chunks chunks = client.draw_chunks(request);
  while (const auto chunk = chunks.next()) {
    expect(!is_final && chunk->response().chunk() == number && chunk->offset() == ids.size(),
           "chunk " + std::to_string(number) + " is at " + std::to_string(chunk->offset()));
    expect(chunk->response().seed() == request.seed(), "another seed");
    ids.insert(ids.end(), chunk->samples().begin(), chunk->samples().end());
    is_final = chunk->response().final();
    ++number;
  }
  expect(number > 1 && is_final, "came in " + std::to_string(number) + " chunks");
  expect(ids == one.at("samples").get<std::vector<std::int32_t>>(),
         one.at("name").get<std::string>() + ": other samples");
}

void stop_early(const samplerd::Client& client, const std::string& name) {
  auto request = from(name);
  request.set_num_samples(kEndless);
  samplerd::Chunks chunks = client.draw_chunks(request);
  for (std::uint32_t number = 0; number < 2; ++number) {
    const auto chunk = chunks.next();
    expect(chunk && chunk->response().chunk() == number, name + " began otherwise");
  }
}

void draw_live(const samplerd::Client& client, const Json& own) {
  std::vector<float> numbers;
  for (const Json& row : own.at("rows")) {
    numbers.insert(numbers.end(), row.begin(), row.end());
  }
  const std::size_t rows = own.at("rows").size();
  v1::CreateDistributionRequest upload;
  *upload.mutable_tensor() = samplerd::tensor(samplerd::Rows(numbers.data(), rows, numbers.size() / rows));
  const std::string name = client.create_distribution(upload).name();
  for (const Json& one : own.at("cases")) {
    check_case(client, name, one);
  }
  auto wrong = from(name);
  wrong.mutable_params()->set_temperature(-1.0);
  const Drawn refused = count(client, wrong);
  expect_drawn("a wrong temperature", refused, 0, StatusCode::INVALID_ARGUMENT);
  const auto& fields = refused.error->violations();
  expect(fields.size() == 1 && fields[0].field == "params.temperature", "a refusal names other fields");
  expect_drawn("no distribution", count(client, from("there.is.none")), 0, StatusCode::NOT_FOUND);
  stop_early(client, name);
  client.delete_distribution(name);
}

void draw_refused(const samplerd::Client& client) {
  expect_drawn("busy", count(client, from("busy")), 2, StatusCode::OK);
  expect_drawn("broken", count(client, from("broken")), 1, StatusCode::UNAVAILABLE);
  expect_drawn("cut", count(client, from("cut")), 1, StatusCode::UNAVAILABLE);
  expect_drawn("slow", count(client, from("slow"), milliseconds(2000)), 5, StatusCode::OK);  // longer in all
  expect_drawn("silent", count(client, from("silent"), milliseconds(300)), 1, StatusCode::DEADLINE_EXCEEDED);
  stop_early(client, "endless");
  const auto result = client.sample(from("left"));  // answered once no draw is in flight
  expect(result.samples().size() == 1 && result.samples()[0] == 7, "another answer");
}

}  // namespace

std::string try_chunks(const Suite& suite) {
  const Json& own = suite.vectors.at("chunks");
  draw_live(samplerd::Client(suite.flags.target), own);
  draw_refused(samplerd::Client(suite.flags.retry_target));
  return std::to_string(own.at("cases").size()) + " draws";
}

}  // namespace conformance
