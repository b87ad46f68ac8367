#include <samplerd/client.hpp>

#include <algorithm>

#include "compare.hpp"
#include "features.hpp"

namespace conformance {
namespace {

namespace v1 = samplerd::v1;

v1::Tensor rows_of(const Json& rows) {
  std::vector<float> numbers;
  for (const Json& row : rows) {
    numbers.insert(numbers.end(), row.begin(), row.end());
  }
  return samplerd::tensor(samplerd::Rows(numbers.data(), rows.size(), numbers.size() / rows.size()));
}

template <class Values>
bool is_same(const Values& got, const Json& due) {
  return Json(std::vector<std::int64_t>(got.begin(), got.end())) == due;
}

bool draws_as_due(const samplerd::Client& client, const Json& all, const Json& one) {
  v1::SampleRequest request;
  *request.mutable_tensor() = rows_of(all.at("tables").at(one.at("table").get<std::size_t>()));
  from_json(one.at("params"), *request.mutable_params());
  request.set_seed(all.at("seed"));
  request.set_num_samples(all.at("num_samples"));
  try {
    return is_same(client.sample(request).samples(), one.at("samples"));
  } catch (const samplerd::Error&) {
    return false;
  }
}

void check_guidance(const samplerd::Client& client, const Json& one) {
  v1::SampleRequest request;
  *request.mutable_tensor() = rows_of(one.at("rows"));
  *request.mutable_guidance()->mutable_tensor() = rows_of(one.at("guidance"));
  request.mutable_params()->set_guidance_scale(one.at("guidance_scale"));
  request.mutable_params()->set_top_k(one.at("top_k"));
  request.set_seed(one.at("seed"));
  request.set_num_samples(one.at("num_samples"));
  const std::string name = one.at("name");
  expect(is_same(client.sample(request).samples(), one.at("samples")), name + ": other samples");
}

void check_draft(const samplerd::Client& client, const Json& one) {
  v1::VerifyDraftRequest request;
  for (const Json& id : one.at("draft_ids")) {
    request.add_draft_ids(id);
  }
  for (const Json& parent : one.at("parents")) {
    request.add_parents(parent);
  }
  if (!one.at("draft").empty()) {
    *request.mutable_draft() = rows_of(one.at("draft"));
  }
  *request.mutable_target() = rows_of(one.at("target"));
  request.mutable_params()->set_temperature(one.at("temperature"));
  request.set_seed(one.at("seed"));
  const auto reply = client.verify_draft(request);
  const bool is_due = is_same(reply.samples(), one.at("samples")) && is_same(reply.path(), one.at("path")) &&
                      reply.accepted() == one.at("accepted").get<std::uint32_t>();
  expect(is_due, one.at("name").get<std::string>() + ": " + reply.ShortDebugString());
}

}  // namespace

std::string try_parameters(const Suite& suite) {
  const samplerd::Client client(suite.flags.target);
  const Json& all = suite.vectors.at("parameters");
  std::string failed;
  for (const Json& one : all.at("cases")) {
    if (!draws_as_due(client, all, one)) {
      failed += (failed.empty() ? "" : "; ") + one.at("name").get<std::string>();
    }
  }
  expect(failed.empty(), failed);
  return std::to_string(all.at("cases").size()) + " sets of parameters";
}

std::string try_guidance(const Suite& suite) {
  const samplerd::Client client(suite.flags.target);
  const Json& all = suite.vectors.at("guidance");
  std::for_each(all.begin(), all.end(), [&](const Json& one) { check_guidance(client, one); });
  return std::to_string(all.size()) + " pairs of rows";
}

std::string try_drafts(const Suite& suite) {
  const samplerd::Client client(suite.flags.target);
  const Json& all = suite.vectors.at("drafts");
  std::for_each(all.begin(), all.end(), [&](const Json& one) { check_draft(client, one); });
  return std::to_string(all.size()) + " drafts";
}

}  // namespace conformance
