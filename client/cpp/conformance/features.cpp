#include "features.hpp"

#include <samplerd/client.hpp>

#include <algorithm>
#include <chrono>
#include <future>
#include <vector>

namespace conformance {
namespace {

namespace v1 = samplerd::v1;
using grpc::StatusCode;
using std::chrono::milliseconds;
using std::chrono::seconds;

/// The code that something fails with. Complains when it does not fail.
template <class Action>
StatusCode code_of(Action action) {
  try {
    action();
  } catch (const samplerd::Error& error) {
    return error.code();
  }
  throw Mismatch("it was answered");
}

v1::SampleRequest written_out(const std::vector<float>& row) {
  v1::SampleRequest request;
  request.mutable_values()->add_row()->mutable_values()->Add(row.begin(), row.end());
  return request;
}

v1::SampleRequest slow_request(const Suite& suite) {
  const Json& slow = suite.vectors.at("slow");
  const auto modulus = slow.at("modulus").get<std::size_t>();
  std::vector<float> row(slow.at("vocab_size").get<std::size_t>());
  for (std::size_t index = 0; index < row.size(); ++index) {
    row[index] = static_cast<float>(index % modulus);
  }
  auto request = samplerd::request(row);
  request.set_num_samples(slow.at("num_samples"));
  return request;
}

void check_array(const samplerd::Client& client, const Json& array) {
  const std::string name = array.at("name");
  std::vector<float> numbers;
  for (const Json& row : array.at("rows")) {
    numbers.insert(numbers.end(), row.begin(), row.end());
  }
  const std::size_t rows = array.at("rows").size();
  v1::Dtype dtype = v1::DTYPE_UNSPECIFIED;
  expect(v1::Dtype_Parse("DTYPE_" + array.at("dtype").get<std::string>(), &dtype), name + ": unknown dtype");
  auto request = samplerd::request(samplerd::Rows(numbers.data(), rows, numbers.size() / rows), dtype);
  expect(request.tensor().data() == from_base64(array.at("data")), name + ": other bytes");
  request.mutable_params()->set_temperature(array.at("temperature"));
  request.set_seed(array.at("seed"));
  request.set_num_samples(array.at("num_samples"));
  const auto result = client.sample(request);
  const auto due = array.at("samples").get<std::vector<std::int32_t>>();
  const auto samples = result.samples();
  expect(std::equal(samples.begin(), samples.end(), due.begin(), due.end()), name + ": other samples");
}

void check_law(const samplerd::Client& client, const Json& law) {
  const std::string name = law.at("name");
  v1::SampleRequest request;
  expect(request.ParseFromString(from_base64(law.at("request"))), name + ": the request is not readable");
  const auto probabilities = law.at("probabilities").get<std::vector<double>>();
  const double draws = law.at("draws");
  const auto result = client.sample(request);
  expect(static_cast<double>(result.samples().size()) == draws, name + ": another number of draws");
  std::vector<double> counts(probabilities.size());
  for (std::int32_t id : result.samples()) {
    counts.at(static_cast<std::size_t>(id)) += 1.0;
  }
  double statistic = 0.0;
  for (std::size_t id = 0; id < counts.size(); ++id) {
    const double expected = probabilities[id] * draws;
    expect(expected > 0.0 || counts[id] == 0.0, name + ": an impossible category was drawn");
    statistic += expected > 0.0 ? (counts[id] - expected) * (counts[id] - expected) / expected : 0.0;
  }
  expect(statistic <= law.at("critical").get<double>(),
         name + ": chi-squared is " + std::to_string(statistic));
}

samplerd::SampleResult sample_over_tls(const Suite& suite, const std::string& token, bool trust) {
  samplerd::ClientOptions options;
  options.tls.emplace();
  options.tls->ca = trust ? samplerd::read_file(suite.flags.ca) : "";
  options.token = token;
  options.timeout = seconds(10);
  v1::SampleRequest request;
  expect(request.ParseFromString(from_base64(suite.vectors.at("calls").at(0).at("request"))), "not readable");
  return samplerd::Client(suite.flags.tls_target, options).sample(request);
}

}  // namespace

std::string try_arrays(const Suite& suite) {
  const samplerd::Client client(suite.flags.target);
  for (const Json& array : suite.vectors.at("arrays")) {
    check_array(client, array);
  }
  return std::to_string(suite.vectors.at("arrays").size()) + " arrays";
}

std::string try_frequencies(const Suite& suite) {
  const samplerd::Client client(suite.flags.target);
  for (const Json& law : suite.vectors.at("frequencies")) {
    check_law(client, law);
  }
  return std::to_string(suite.vectors.at("frequencies").size()) + " laws";
}

std::string try_limits(const Suite& suite) {
  const samplerd::Client client(suite.flags.target);
  const auto most = client.server_info().limits().max_message_bytes();
  expect(most > 0, "max_message_bytes is not told");
  client.sample(std::vector<float>(3'000'000));
  // Ids from 16,384 on take 3 bytes each on the wire.
  auto request = samplerd::request(std::vector<float>(65'536));
  request.set_num_samples(2'000'000);
  const auto result = client.sample(request);
  expect(result.response().samples_size() == 2'000'000, "another number of samples");
  expect(result.response().ByteSizeLong() > 4u * 1024 * 1024, "the reply is smaller than 4 MiB");
  return "max_message_bytes " + std::to_string(most);
}

std::string try_deadline(const Suite& suite) {
  const samplerd::Client client(suite.flags.target);
  samplerd::CallOptions call;
  call.timeout = milliseconds(50);
  const StatusCode code = code_of([&] { client.sample(slow_request(suite), call); });
  expect(code == StatusCode::DEADLINE_EXCEEDED || code == StatusCode::RESOURCE_EXHAUSTED,
         "it failed with " + std::to_string(code));
  return code == StatusCode::DEADLINE_EXCEEDED ? "DEADLINE_EXCEEDED" : "RESOURCE_EXHAUSTED";
}

std::string try_cancel(const Suite& suite) {
  const samplerd::Client client(suite.flags.target);
  samplerd::CallOptions call;
  call.cancellation.emplace();
  call.timeout = seconds(60);
  const auto request = slow_request(suite);
  auto code = std::async(std::launch::async, [&] { return code_of([&] { client.sample(request, call); }); });
  const bool is_over = code.wait_for(milliseconds(100)) == std::future_status::ready;
  call.cancellation->cancel();
  const bool ends_at_once = code.wait_for(seconds(1)) == std::future_status::ready;
  expect(!is_over, "it was over before it could be cancelled");
  expect(ends_at_once, "it did not end at once");
  const StatusCode found = code.get();
  expect(found == StatusCode::CANCELLED, "it failed with " + std::to_string(found));
  return "CANCELLED";
}

std::string try_retry(const Suite& suite) {
  const samplerd::Client client(suite.flags.retry_target);
  auto request = written_out({0.0F});
  const auto ask = [&](std::uint64_t number) {
    request.set_id(number);
    request.set_seed(number);
    return client.sample(request);
  };
  for (const std::uint64_t number : {1, 4}) {
    const auto result = ask(number);
    expect(result.samples().size() == 1 && result.samples()[0] == 7, "another answer");
  }
  expect(code_of([&] { ask(2); }) == StatusCode::RESOURCE_EXHAUSTED, "request 2 failed otherwise");
  expect(code_of([&] { ask(3); }) == StatusCode::INVALID_ARGUMENT, "request 3 failed otherwise");
  return "tried again twice";
}

std::string try_metadata(const Suite& suite) {
  samplerd::ClientOptions options;
  options.metadata = {{"x-tenant", "conformance"}};
  const samplerd::Client client(suite.flags.retry_target, options);
  samplerd::v1::SampleRequest request;
  request.set_distribution("prior");
  const auto result = client.sample(request);
  expect(result.samples().size() == 1 && result.samples()[0] == 7, "another answer");
  return "and the distribution's name";
}

std::string try_tls(const Suite& suite) {
  const auto result = sample_over_tls(suite, suite.flags.token, true);
  const auto due = suite.vectors.at("calls").at(0).at("reply").at("samples").get<std::vector<std::int32_t>>();
  const auto samples = result.samples();
  expect(std::equal(samples.begin(), samples.end(), due.begin(), due.end()), "other samples");
  const StatusCode code = code_of([&] { sample_over_tls(suite, suite.flags.token, false); });
  expect(code == StatusCode::UNAVAILABLE || code == StatusCode::DEADLINE_EXCEEDED,
         "without the CA it failed with " + std::to_string(code));
  return "and refused without the CA";
}

std::string try_token(const Suite& suite) {
  for (const std::string token : {"wrong", ""}) {
    const StatusCode code = code_of([&] { sample_over_tls(suite, token, true); });
    expect(code == StatusCode::UNAUTHENTICATED,
           "with token '" + token + "' it failed with " + std::to_string(code));
  }
  return "UNAUTHENTICATED";
}

}  // namespace conformance
