/// What a call throws.
#pragma once

#include <grpcpp/support/status_code_enum.h>

#include <chrono>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace samplerd {

/// One field of a request that the server refused.
struct FieldViolation {
  /// Its name, dotted where nested: "params.temperature"; "row[3]" for a row that could not be drawn from.
  std::string field;
  /// What is wrong with it, for people.
  std::string description;
  /// What is wrong with it, for programs: the name of a RowErrorReason without its prefix, as "NAN"; often
  /// empty.
  std::string reason;
};

/// What the server said beside the code and the message.
struct ErrorDetails {
  /// The fields in error, in the server's order.
  std::vector<FieldViolation> violations;
  /// After how long to ask again, where the server says so.
  std::optional<std::chrono::milliseconds> retry_after;
  /// The server said not to ask again.
  bool forbids_retry = false;
  /// The call was CANCELLED, and not by its caller: a server or a proxy that ends its connections does that.
  bool is_foreign_cancel = false;
};

/// Every failure of a call. Misuse that is seen before a call (an empty row) is a std::invalid_argument
/// instead.
class Error : public std::runtime_error {
 public:
  Error(grpc::StatusCode code, const std::string& message, ErrorDetails details = {})
      : std::runtime_error(message), code_(code), details_(std::move(details)) {}

  /// INVALID_ARGUMENT: see violations(). RESOURCE_EXHAUSTED: overloaded. UNAVAILABLE: not reachable, or
  /// draining. DEADLINE_EXCEEDED, CANCELLED, UNAUTHENTICATED, NOT_FOUND, ALREADY_EXISTS, UNIMPLEMENTED: as
  /// they say.
  grpc::StatusCode code() const { return code_; }
  /// The fields in error; empty unless the server named some.
  const std::vector<FieldViolation>& violations() const { return details_.violations; }
  /// After how long the server wants to be asked again; nothing if it gave no hint.
  std::optional<std::chrono::milliseconds> retry_after() const { return details_.retry_after; }
  /// Whether asking again can help: overloaded, unavailable, or cancelled by somebody
  /// other than the caller, and the server does not forbid it.
  bool is_retryable() const;
  /// Whether the server does not forbid to ask again, whatever the code.
  bool may_retry() const { return !details_.forbids_retry; }

 private:
  grpc::StatusCode code_;
  ErrorDetails details_;
};

}  // namespace samplerd
