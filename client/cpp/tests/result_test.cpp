#include <samplerd/result.hpp>

#include <gtest/gtest.h>

#include <stdexcept>

namespace samplerd {
namespace {

TEST(SampleResult, GivesRows) {
  v1::SampleResponse response;
  for (int id : {1, 2, 3, 4, 5, 6}) {
    response.add_samples(id);
  }
  const SampleResult result(response, 3);
  EXPECT_EQ(result.rows(), 2U);
  EXPECT_EQ(result.row(1)[0], 4);
  EXPECT_THROW(result.row(2), std::out_of_range);
  EXPECT_TRUE(result.is_complete());
}

TEST(SampleResult, ReadsRawSamples) {
  v1::SampleResponse response;
  response.set_raw_samples(std::string("\x01\0\0\0\xff\xff\xff\xff", 8));
  response.add_row_errors()->set_row(1);
  const SampleResult result(std::move(response), 0);
  ASSERT_EQ(result.rows(), 2U);
  EXPECT_EQ(result.samples()[0], 1);
  EXPECT_EQ(result.samples()[1], -1);
  EXPECT_FALSE(result.is_complete());
}

}  // namespace
}  // namespace samplerd
