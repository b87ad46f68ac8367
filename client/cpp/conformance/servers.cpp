/// Which servers are called, and how often: budget, servers, connections, unix.
#include <samplerd/client.hpp>

#include <algorithm>
#include <chrono>
#include <sstream>
#include <thread>
#include <vector>

#include "compare.hpp"
#include "features.hpp"

namespace conformance {
namespace {

namespace v1 = samplerd::v1;

void draw(const samplerd::Client& client, const std::string& distribution) {
  v1::SampleRequest request;
  request.set_distribution(distribution);
  client.sample(request);
}

void expect_outage(const samplerd::Client& client) {
  try {
    draw(client, "outage");
  } catch (const samplerd::Error& error) {
    expect(error.code() == grpc::StatusCode::UNAVAILABLE, "an outage failed otherwise");
    return;
  }
  throw Mismatch("answered in an outage");
}

/// Makes the first of the calls.
void make_worked(const Suite& suite, const samplerd::Client& client) {
  const Json& call = suite.vectors.at("calls").at(0);
  v1::SampleRequest request;
  expect(request.ParseFromString(from_base64(call.at("request"))), "not readable");
  v1::SampleResponse due;
  from_json(call.at("reply"), due);
  expect_same(call.at("name"), client.sample(request).response(), due, suite.vectors.at("tolerance"));
}

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');) {
    parts.push_back(part);
  }
  return parts;
}

}  // namespace

std::string try_budget(const Suite& suite) {
  const samplerd::Client client(suite.flags.retry_target);
  for (int calls = 0; calls < 40; ++calls) {
    expect_outage(client);
  }
  for (int calls = 0; calls < 11; ++calls) {
    draw(client, "steady");
  }
  expect_outage(client);
  return "21 retries of 41 calls";
}

std::string try_servers(const Suite& suite) {
  const samplerd::Client client(split(suite.flags.servers));
  const std::vector<float> row{0.0F};
  for (int draws = 0; draws < 200; ++draws) {
    const auto result = client.sample(row);
    expect(result.samples().size() == 1 && result.samples()[0] == 0, "another answer");
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return "200 draws";
}

std::string try_connections(const Suite& suite) {
  samplerd::ClientOptions options;
  options.connections = 4;
  const samplerd::Client counted(suite.flags.retry_target, options);
  for (int calls = 0; calls < 40; ++calls) {
    draw(counted, "connections");
  }
  const samplerd::Client live(suite.flags.target, options);
  for (int calls = 0; calls < 8; ++calls) {
    make_worked(suite, live);
  }
  return "4 connections";
}

std::string try_unix(const Suite& suite) {
  samplerd::ClientOptions options;
  options.token = "unasked";
  make_worked(suite, samplerd::Client(suite.flags.unix_target, options));
  return "and a token in plain text";
}

std::string try_halves(const Suite& suite) {
  const samplerd::Client client(suite.flags.target);
  int tried = 0;
  for (const Json& array : suite.vectors.at("arrays")) {
    if (array.at("dtype") == "F32") {
      continue;
    }
    ++tried;
    const std::string bytes = from_base64(array.at("data"));
    std::vector<std::uint16_t> bits(bytes.size() / 2);
    for (std::size_t index = 0; index < bits.size(); ++index) {
      const auto low = static_cast<unsigned char>(bytes[2 * index]);
      const auto high = static_cast<unsigned char>(bytes[2 * index + 1]);
      bits[index] = static_cast<std::uint16_t>(high << 8 | low);
    }
    const std::size_t rows = array.at("rows").size();
    const auto dtype = array.at("dtype") == "F16" ? v1::DTYPE_F16 : v1::DTYPE_BF16;
    v1::SampleRequest request;
    *request.mutable_tensor() = samplerd::tensor_of_bits(bits.data(), rows, bits.size() / rows, dtype);
    request.mutable_params()->set_temperature(array.at("temperature"));
    request.set_seed(array.at("seed"));
    request.set_num_samples(array.at("num_samples"));
    const auto result = client.sample(request);
    const auto due = array.at("samples").get<std::vector<std::int32_t>>();
    const auto samples = result.samples();
    expect(std::equal(samples.begin(), samples.end(), due.begin(), due.end()),
           array.at("name").get<std::string>() + ": other samples");
  }
  return std::to_string(tried) + " arrays";
}

}  // namespace conformance
