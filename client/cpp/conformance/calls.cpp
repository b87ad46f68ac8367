#include <samplerd/client.hpp>

#include <future>
#include <utility>

#include "compare.hpp"
#include "features.hpp"

namespace conformance {
namespace {

namespace v1 = samplerd::v1;

template <class Request>
Request request_of(const Json& call) {
  Request request;
  expect(request.ParseFromString(from_base64(call.at("request"))), "the request is not readable");
  return request;
}

std::string fields_of(const samplerd::Error& error) {
  Json fields = Json::array();
  for (const auto& violation : error.violations()) {
    fields.push_back(violation.field);
  }
  return fields.dump();
}

template <class Response>
void check_reply(const Suite& suite, const Json& call, const Response& reply) {
  Response due;
  from_json(call.at("reply"), due);
  expect_same(call.at("name"), reply, due, suite.vectors.at("tolerance"));
}

void make_call(const Suite& suite, const samplerd::Client& client, const Json& call) {
  const std::string& rpc = call.at("rpc").get_ref<const std::string&>();
  const bool is_answered = call.contains("reply");
  if (rpc == "Sample") {
    const auto result = client.sample(request_of<v1::SampleRequest>(call));
    is_answered ? check_reply(suite, call, result.response()) : void();
  } else if (rpc == "VerifyDraft") {
    const auto reply = client.verify_draft(request_of<v1::VerifyDraftRequest>(call));
    is_answered ? check_reply(suite, call, reply) : void();
  } else if (rpc == "CreateDistribution") {
    client.create_distribution(request_of<v1::CreateDistributionRequest>(call));
  } else if (rpc == "DeleteDistribution") {
    client.delete_distribution(request_of<v1::DeleteDistributionRequest>(call).name());
  } else {
    throw Mismatch("no such RPC here: " + rpc);
  }
  expect(is_answered, "it succeeded, where it was to fail");
}

void check_call(const Suite& suite, const samplerd::Client& client, const Json& call) {
  const std::string name = call.at("name");
  try {
    make_call(suite, client, call);
  } catch (const samplerd::Error& error) {
    expect(call.contains("error"), name + ": " + error.what());
    const Json& due = call.at("error");
    expect(error.code() == due.at("code").get<int>(), name + ": failed with " + std::to_string(error.code()));
    const Json& fields = due.at("fields");
    expect(fields.empty() || fields.dump() == fields_of(error), name + ": names " + fields_of(error));
  }
}

}  // namespace

std::string try_calls(const Suite& suite) {
  const samplerd::Client client(suite.flags.target);
  const Json& calls = suite.vectors.at("calls");
  for (const Json& call : calls) {
    check_call(suite, client, call);
  }
  return std::to_string(calls.size()) + " calls";
}

std::string try_stream(const Suite& suite) {
  const samplerd::Client client(suite.flags.target);
  samplerd::StreamOptions options;
  options.max_in_flight = 1000;
  samplerd::Stream stream = client.stream(options);
  std::vector<std::pair<Json, std::future<samplerd::SampleResult>>> asked;
  for (const Json& call : suite.vectors.at("calls")) {
    if (call.at("rpc") != "Sample" || !call.contains("reply")) {
      continue;
    }
    auto request = request_of<v1::SampleRequest>(call);
    if (request.has_distribution()) {
      continue;
    }
    Json due = call;
    request.set_id(1000 + asked.size());
    due["reply"]["id"] = std::to_string(request.id());
    asked.emplace_back(std::move(due), stream.submit(std::move(request)));
  }
  for (auto& [call, future] : asked) {
    check_reply(suite, call, future.get().response());
  }
  stream.close();
  return std::to_string(asked.size()) + " requests in flight";
}

}  // namespace conformance
