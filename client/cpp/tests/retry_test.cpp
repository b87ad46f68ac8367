#include "retry.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace samplerd {
namespace {

using grpc::StatusCode;
using std::chrono::milliseconds;

constexpr Seconds kPlenty{60.0};

Error refused(StatusCode code = StatusCode::RESOURCE_EXHAUSTED, std::optional<milliseconds> hint = {}) {
  ErrorDetails details;
  details.retry_after = hint;
  return {code, "refused", details};
}

TEST(WaitBeforeRetry, GrowsToItsUpperEnd) {
  const RetryPolicy policy{100};
  EXPECT_DOUBLE_EQ(wait_before_retry(policy, refused(), 1, kPlenty, 1.0)->count(), 0.05);
  EXPECT_DOUBLE_EQ(wait_before_retry(policy, refused(), 2, kPlenty, 1.0)->count(), 0.1);
  EXPECT_DOUBLE_EQ(wait_before_retry(policy, refused(), 3, kPlenty, 0.5)->count(), 0.1);
  EXPECT_DOUBLE_EQ(wait_before_retry(policy, refused(), 7, kPlenty, 1.0)->count(), 2.0);
  EXPECT_DOUBLE_EQ(wait_before_retry(policy, refused(), 99, kPlenty, 1.0)->count(), 2.0);
}

TEST(WaitBeforeRetry, ObeysTheHint) {
  const auto error = refused(StatusCode::RESOURCE_EXHAUSTED, milliseconds(100));
  EXPECT_DOUBLE_EQ(wait_before_retry({}, error, 3, kPlenty, 0.5)->count(), 0.1);
  EXPECT_FALSE(wait_before_retry({}, error, 1, Seconds(0.1), 0.5));  // it would be too late
}

TEST(WaitBeforeRetry, GivesUp) {
  EXPECT_TRUE(wait_before_retry({}, refused(StatusCode::UNAVAILABLE), 1, kPlenty, 0.5));
  EXPECT_FALSE(wait_before_retry({}, refused(), 4, kPlenty, 0.5));
  EXPECT_FALSE(wait_before_retry({}, refused(StatusCode::INTERNAL), 1, kPlenty, 0.5));
  EXPECT_FALSE(wait_before_retry({}, refused(StatusCode::DEADLINE_EXCEEDED), 1, kPlenty, 0.5));
  const Error too_large(StatusCode::RESOURCE_EXHAUSTED, "Received message larger than max (9 vs. 4)");
  EXPECT_FALSE(wait_before_retry({}, too_large, 1, kPlenty, 0.5));
  ErrorDetails details;
  details.forbids_retry = true;
  EXPECT_FALSE(wait_before_retry({}, Error(StatusCode::UNAVAILABLE, "never", details), 1, kPlenty, 0.5));
}

/// A world without time, that remembers the waits.
class WithRetries : public testing::Test {
 protected:
  RetryWorld world() {
    const auto wait = [this](Seconds delay) {
      waits_.push_back(delay.count());
      now_ += std::chrono::duration_cast<std::chrono::nanoseconds>(delay);
      return is_cancelled_;
    };
    return {[this] { return now_; }, wait, [] { return 0.5; }};
  }

  SteadyTime now_{};
  std::vector<double> waits_;
  bool is_cancelled_ = false;
  RetryBudget budget_{RetryPolicy{}};
};

TEST_F(WithRetries, TriesUntilItSucceeds) {
  int attempts = 0;
  with_retries({}, budget_, now_ + std::chrono::minutes(1), world(), [&] {
    if (++attempts < 3) {
      throw refused(StatusCode::RESOURCE_EXHAUSTED, milliseconds(100));
    }
  });
  EXPECT_EQ(attempts, 3);
  EXPECT_EQ(waits_, (std::vector<double>{0.1, 0.1}));
}

TEST_F(WithRetries, ThrowsTheLastErrorWhenTheDeadlineNears) {
  int attempts = 0;
  const auto attempt = [&] {
    ++attempts;
    throw refused(StatusCode::UNAVAILABLE, milliseconds(100));
  };
  EXPECT_THROW(with_retries({}, budget_, now_ + milliseconds(150), world(), attempt), Error);
  EXPECT_EQ(attempts, 2);
}

TEST_F(WithRetries, KeepsTheBudgetOfAllCalls) {
  RetryPolicy policy;
  policy.budget = 5.0;
  policy.budget_refill = 0.5;
  RetryBudget budget(policy);
  int attempts = 0;
  const auto call = [&](bool is_refused) {
    with_retries(policy, budget, now_ + std::chrono::minutes(9), world(), [&] {
      ++attempts;
      if (is_refused) {
        throw refused();
      }
    });
  };
  for (int calls = 0; calls < 10; ++calls) {
    EXPECT_THROW(call(true), Error);
  }
  EXPECT_EQ(attempts, 10 + 5);
  call(false);
  call(false);
  attempts = 0;
  EXPECT_THROW(call(true), Error);
  EXPECT_EQ(attempts, 2);  // the two successes gave one retry back
}

TEST_F(WithRetries, StopsWaitingWhenCancelled) {
  is_cancelled_ = true;
  try {
    with_retries({}, budget_, now_ + std::chrono::minutes(1), world(), [] { throw refused(); });
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), StatusCode::CANCELLED);
  }
}

}  // namespace
}  // namespace samplerd
