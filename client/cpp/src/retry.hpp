/// When to ask again: the decision, which has no clock, and the one loop that uses it.
///
/// gRPC's own retries are off (see connection.cpp): they would multiply with these, and they cannot help a
/// large request, of which gRPC keeps no more than 256 KiB to send again.
#pragma once

#include <chrono>
#include <functional>
#include <mutex>
#include <optional>

#include <samplerd/error.hpp>
#include <samplerd/options.hpp>

namespace samplerd {

using Seconds = std::chrono::duration<double>;
using SteadyTime = std::chrono::steady_clock::time_point;

/// When a call that begins now must be over; a year is as good as never, and fits into every clock.
SteadyTime end_of(std::chrono::milliseconds timeout);

/// How long to wait before the next attempt; nothing = give up.
///
/// @param attempts  made so far, at least 1
/// @param time_left until the call's deadline
/// @param uniform   the jitter, in [0, 1)
std::optional<Seconds> wait_before_retry(const RetryPolicy& policy, const Error& error, int attempts,
                                         Seconds time_left, double uniform);

/// Bounds the retries of all calls of a client, so that a fleet of clients cannot turn an overload into a
/// storm. Used by many threads.
class RetryBudget {
 public:
  explicit RetryBudget(const RetryPolicy& policy)
      : most_(policy.budget), refill_(policy.budget_refill), retries_(policy.budget) {}

  /// Counts a call that succeeded.
  void deposit();

  /// Uses up one retry; false if none is left.
  bool withdraw();

 private:
  const double most_;
  const double refill_;
  std::mutex mutex_;
  double retries_;
};

/// Time, and what is drawn by chance, so that tests can have their own.
struct RetryWorld {
  /// The time now.
  std::function<SteadyTime()> now;
  /// Waits; returns whether the call was cancelled meanwhile.
  std::function<bool(Seconds)> wait;
  /// A number in [0, 1).
  std::function<double()> uniform;
};

/// The real one, for a call with this cancellation.
RetryWorld real_world(const std::optional<Cancellation>& cancellation);

/// Does `attempt` until it does not throw, or must not be tried again. Throws what the last attempt threw, or
/// CANCELLED.
void with_retries(const RetryPolicy& policy, RetryBudget& budget, SteadyTime deadline, const RetryWorld& world,
                  const std::function<void()>& attempt);

}  // namespace samplerd
