#include "status.hpp"

#include <google/rpc/error_details.pb.h>
#include <gtest/gtest.h>

namespace samplerd {
namespace {

using grpc::StatusCode;
using std::chrono::milliseconds;

grpc::Status overloaded() {
  google::rpc::RetryInfo retry;
  retry.mutable_retry_delay()->set_nanos(250'000'000);
  google::rpc::Status status;
  status.add_details()->PackFrom(retry);
  return {StatusCode::RESOURCE_EXHAUSTED, "full", status.SerializeAsString()};
}

Error with_pushback(const char* text) {
  return error_of(overloaded(), {{"grpc-retry-pushback-ms", text}});
}

TEST(ErrorOf, NamesTheFields) {
  google::rpc::BadRequest bad;
  auto* violation = bad.add_field_violations();
  violation->set_field("params.temperature");
  violation->set_description("negative");
  bad.add_field_violations()->set_field("num_samples");
  google::rpc::Status status;
  status.set_code(StatusCode::INVALID_ARGUMENT);
  status.add_details()->PackFrom(bad);
  const Error error = error_of(status);
  EXPECT_EQ(error.code(), StatusCode::INVALID_ARGUMENT);
  ASSERT_EQ(error.violations().size(), 2U);
  EXPECT_EQ(error.violations()[0].field, "params.temperature");
  EXPECT_EQ(error.violations()[0].description, "negative");
  EXPECT_FALSE(error.is_retryable());
}

TEST(ErrorOf, PrefersThePushbackToRetryInfo) {
  EXPECT_EQ(error_of(overloaded(), {}).retry_after(), milliseconds(250));
  EXPECT_EQ(with_pushback("100").retry_after(), milliseconds(100));
  EXPECT_TRUE(with_pushback("0").is_retryable());
}

TEST(ErrorOf, HearsThatNothingIsToBeTriedAgain) {
  for (const char* text : {"-1", "", "soon", "10 ", "1.5", "99999999999999"}) {
    EXPECT_FALSE(with_pushback(text).is_retryable()) << text;
    EXPECT_FALSE(with_pushback(text).retry_after()) << text;
  }
}

TEST(ErrorOf, SurvivesMalformedDetails) {
  const Error error = error_of({StatusCode::UNAVAILABLE, "draining", "\xff\xff"}, {});
  EXPECT_STREQ(error.what(), "draining");
  EXPECT_TRUE(error.violations().empty());
  EXPECT_TRUE(error.is_retryable());
}

}  // namespace
}  // namespace samplerd
