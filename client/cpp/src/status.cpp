#include "status.hpp"

#include <google/rpc/error_details.pb.h>

#include <charconv>
#include <string_view>

namespace samplerd {
namespace {

using std::chrono::milliseconds;

void read_bad_request(const google::rpc::BadRequest& bad, ErrorDetails& details) {
  for (const auto& violation : bad.field_violations()) {
    details.violations.push_back({violation.field(), violation.description(), violation.reason()});
  }
}

ErrorDetails details_of(const google::rpc::Status& status) {
  ErrorDetails details;
  for (const auto& packed : status.details()) {
    google::rpc::BadRequest bad;
    google::rpc::RetryInfo retry;
    if (packed.UnpackTo(&bad)) {
      read_bad_request(bad, details);
    } else if (packed.UnpackTo(&retry)) {
      const auto& delay = retry.retry_delay();
      details.retry_after = milliseconds(delay.seconds() * 1000 + delay.nanos() / 1'000'000);
    }
  }
  return details;
}

/// As gRPC's retry design has it: a negative number, and what is no number, mean that nothing is tried again.
void read_pushback(const Trailers& trailers, ErrorDetails& details) {
  const auto found = trailers.find("grpc-retry-pushback-ms");
  if (found == trailers.end()) {
    return;
  }
  const std::string_view text(found->second.data(), found->second.size());
  std::int32_t wait_ms = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), wait_ms);
  if (error != std::errc() || end != text.data() + text.size() || wait_ms < 0) {
    details.retry_after.reset();
    details.forbids_retry = true;
  } else {
    details.retry_after = milliseconds(wait_ms);
  }
}

}  // namespace

bool Error::is_retryable() const {
  if (details_.forbids_retry) {
    return false;
  }
  if (code_ == grpc::StatusCode::RESOURCE_EXHAUSTED) {
    // How gRPC itself refuses a message that is over a limit of either side: it will not shrink by waiting.
    return std::string_view(what()).find("larger than max") == std::string_view::npos;
  }
  return code_ == grpc::StatusCode::UNAVAILABLE || details_.is_foreign_cancel;
}

Error error_of(const grpc::Status& status, const Trailers& trailers) {
  google::rpc::Status detailed;
  if (!detailed.ParseFromString(status.error_details())) {
    detailed.Clear();
  }
  ErrorDetails details = details_of(detailed);
  read_pushback(trailers, details);
  return {status.error_code(), status.error_message(), std::move(details)};
}

Error error_of(const google::rpc::Status& status) {
  return {static_cast<grpc::StatusCode>(status.code()), status.message(), details_of(status)};
}

}  // namespace samplerd
