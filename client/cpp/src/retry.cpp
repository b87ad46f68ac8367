#include "retry.hpp"

#include <algorithm>
#include <random>
#include <thread>

namespace samplerd {
namespace {

double draw_uniform() {
  thread_local std::minstd_rand generator{std::random_device{}()};
  return std::uniform_real_distribution<double>{}(generator);
}

}  // namespace

SteadyTime end_of(std::chrono::milliseconds timeout) {
  return std::chrono::steady_clock::now() +
         std::min<std::chrono::milliseconds>(timeout, std::chrono::hours(24 * 365));
}

std::optional<Seconds> wait_before_retry(const RetryPolicy& policy, const Error& error, int attempts,
                                         Seconds time_left, double uniform) {
  if (!error.is_retryable() || attempts >= policy.max_attempts) {
    return std::nullopt;
  }
  // Beyond 2^30 times the first wait any policy is at its longest.
  const double growth = static_cast<double>(1 << std::min(attempts - 1, 30));
  const Seconds backoff = std::min<Seconds>(policy.initial_backoff * growth, policy.max_backoff) * uniform;
  const auto hint = error.retry_after();
  const Seconds wait = hint ? Seconds(*hint) : backoff;
  return wait < time_left ? std::optional(wait) : std::nullopt;
}

void RetryBudget::deposit() {
  const std::lock_guard<std::mutex> lock(mutex_);
  retries_ = std::min(most_, retries_ + refill_);
}

bool RetryBudget::withdraw() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (retries_ < 1.0) {
    return false;
  }
  retries_ -= 1.0;
  return true;
}

RetryWorld real_world(const std::optional<Cancellation>& cancellation) {
  const auto wait = [cancellation](Seconds delay) {
    // Rounded up: a hint must not be cut short by a nanosecond.
    const auto whole = std::chrono::ceil<std::chrono::nanoseconds>(delay);
    if (cancellation) {
      return cancellation->wait_for(whole);
    }
    std::this_thread::sleep_for(whole);
    return false;
  };
  return {std::chrono::steady_clock::now, wait, draw_uniform};
}

void with_retries(const RetryPolicy& policy, RetryBudget& budget, SteadyTime deadline, const RetryWorld& world,
                  const std::function<void()>& attempt) {
  for (int attempts = 1;; ++attempts) {
    Seconds wait{};
    try {
      attempt();
      budget.deposit();
      return;
    } catch (const Error& error) {
      const auto decided =
          wait_before_retry(policy, error, attempts, deadline - world.now(), world.uniform());
      if (!decided || !budget.withdraw()) {
        throw;
      }
      wait = *decided;
    }
    if (world.wait(wait)) {
      throw Error(grpc::StatusCode::CANCELLED, "cancelled before the next attempt");
    }
  }
}

}  // namespace samplerd
