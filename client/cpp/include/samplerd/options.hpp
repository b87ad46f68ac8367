/// Options of a client, of a call and of a stream.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <samplerd/cancellation.hpp>

namespace samplerd {

/// Whom to trust and who to be: PEM text; read_file() reads it.
struct TlsOptions {
  /// Certificates of the authorities that may vouch for the server. Empty = the ones of gRPC's own roots
  /// file.
  std::string ca;
  /// This client's certificate chain, for servers that ask for one. Only together with `key`.
  std::string certificate;
  /// Its private key.
  std::string key;
  /// The name to look for in the server's certificate, when it is not the target's.
  std::string server_name;
};

/// The content of a file. Throws std::runtime_error when it cannot be read.
std::string read_file(const std::string& path);

/// How often, and after how long, a call is tried again.
///
/// Only RESOURCE_EXHAUSTED, UNAVAILABLE and a CANCELLED that the caller did not ask for are, never past the
/// call's deadline. A hint of the server's is obeyed to the millisecond, "never" included; without one the wait is uniform between 0 and an upper end
/// that doubles (full jitter).
struct RetryPolicy {
  /// Attempts in all, at least 1; 1 = never ask again.
  int max_attempts = 4;
  /// Upper end of the first wait.
  std::chrono::milliseconds initial_backoff{50};
  /// Upper end of the longest wait.
  std::chrono::milliseconds max_backoff{2000};
  /// Retries that a client may make in a burst, over all its calls; each uses up one.
  double budget = 20.0;
  /// Retries that each successful call gives back: with 0.1, at most one for ten such calls in the long run.
  double budget_refill = 0.1;
};

/// Options of a client.
struct ClientOptions {
  /// Speak TLS. Nothing = plain text.
  std::optional<TlsOptions> tls;
  /// Sent with every call as `authorization: Bearer TOKEN`. Empty = none.
  std::string token;
  /// Send the token over an unencrypted network too, and not only to loopback and Unix sockets.
  bool allow_plaintext_token = false;
  /// Send calls in turn to every healthy address of the target, for a name that stands for several
  /// (`dns:///host:port`). A client of several targets always does.
  bool balance = false;
  /// Connections to each server, on which calls take turns, at least 1. With 1, the clients of a process share
  /// one. A server with several workers gives a connection to one of them.
  int connections = 1;
  /// Sent with every call, by lower-case keys. Calls about an uploaded distribution carry its name as
  /// x-samplerd-distribution in any case, by which a proxy can choose the server.
  std::vector<std::pair<std::string, std::string>> metadata;
  /// Time for a call and all its retries, unless the call says otherwise.
  std::chrono::milliseconds timeout{30'000};
  /// When calls are tried again.
  RetryPolicy retry;
  /// Largest reply that is taken, in bytes. Requests are bounded by the server.
  int max_message_bytes = 256 * 1024 * 1024;
};

/// Options of one call.
struct CallOptions {
  /// Time for the call and all its retries. Nothing = the client's.
  std::optional<std::chrono::milliseconds> timeout;
  /// Ends the call, a wait before a retry included.
  std::optional<Cancellation> cancellation;
};

/// Options of a stream.
struct StreamOptions {
  /// Requests in flight at once, at least 1; submit() waits while that many are.
  std::size_t max_in_flight = 64;
  /// Time for the whole stream. Nothing = no end.
  std::optional<std::chrono::milliseconds> timeout;
};

}  // namespace samplerd
