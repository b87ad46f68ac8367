#include <samplerd/arrays.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

namespace samplerd {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// The number that a binary16 stands for.
float of_f16(std::uint16_t bits) {
  const int exponent = (bits >> 10) & 0x1f;
  const auto mantissa = static_cast<float>(bits & 0x3ff);
  const float magnitude = exponent == 31  ? (mantissa == 0.0F ? kInfinity : kNan)
                          : exponent == 0 ? std::ldexp(mantissa, -24)
                                          : std::ldexp(mantissa + 1024.0F, exponent - 25);
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

TEST(F16, KeepsEveryBinary16) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float value = of_f16(half);
    if (!std::isnan(value)) {
      ASSERT_EQ(to_f16(value), half) << value;
    }
  }
}

TEST(F16, RoundsToNearestTiesToEven) {
  for (std::uint16_t bits = 0; bits < 0x7bff; ++bits) {
    const float low = of_f16(bits);
    const float high = of_f16(static_cast<std::uint16_t>(bits + 1));
    const float middle = low + (high - low) / 2;  // exact in binary32
    ASSERT_EQ(to_f16(middle), bits % 2 == 0 ? bits : bits + 1) << middle;
    ASSERT_EQ(to_f16(std::nextafter(middle, 0.0F)), bits) << middle;
    ASSERT_EQ(to_f16(std::nextafter(middle, kInfinity)), bits + 1) << middle;
  }
}

TEST(F16, TakesWhatHasNoNearest) {
  EXPECT_EQ(to_f16(65504.0F), 0x7bff);
  EXPECT_EQ(to_f16(65519.996F), 0x7bff);
  EXPECT_EQ(to_f16(65520.0F), 0x7c00);
  EXPECT_EQ(to_f16(1e30F), 0x7c00);
  EXPECT_EQ(to_f16(-kInfinity), 0xfc00);
  EXPECT_EQ(to_f16(-0.0F), 0x8000);
  EXPECT_TRUE(std::isnan(of_f16(to_f16(kNan))));
  std::uint32_t low_payload = 0x7f800001;  // a NaN whose payload does not fit
  float value;
  std::memcpy(&value, &low_payload, sizeof value);
  EXPECT_TRUE(std::isnan(of_f16(to_f16(value))));
}

TEST(Bf16, RoundsToNearestTiesToEven) {
  EXPECT_EQ(to_bf16(1.0F), 0x3f80);
  EXPECT_EQ(to_bf16(1.00390625F), 0x3f80);  // between 0x3f80 and 0x3f81
  EXPECT_EQ(to_bf16(1.01171875F), 0x3f82);  // between 0x3f81 and 0x3f82
  EXPECT_EQ(to_bf16(1.003907F), 0x3f81);
  EXPECT_EQ(to_bf16(-0.0F), 0x8000);
  EXPECT_EQ(to_bf16(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_EQ(to_bf16(-kInfinity), 0xff80);
  EXPECT_GT(to_bf16(kNan) & 0x7fff, 0x7f80);
}

TEST(Tensor, HoldsTheFloatsAsTheyAre) {
  const std::vector<float> numbers{1.0F, 2.0F, 0.5F, 1.5F, -1.0F, kInfinity};
  const auto made = tensor(Rows(numbers.data(), 2, 3));
  EXPECT_EQ(made.rows(), 2U);
  EXPECT_EQ(made.vocab_size(), 3U);
  ASSERT_EQ(made.data().size(), 24U);
  EXPECT_EQ(std::memcmp(made.data().data(), numbers.data(), 24), 0);
}

TEST(Tensor, MovesWhatIsEncodedAlready) {
  std::string data(64, 'x');
  const char* where = data.data();
  const auto made = tensor(std::move(data), 2, 4, v1::DTYPE_F64);
  EXPECT_EQ(made.data().data(), where);
}

TEST(Tensor, TakesBitsAsTheyAre) {
  const std::array<std::uint16_t, 4> bits{0x3c00, 0, 0x7bff, 1};
  const auto made = tensor_of_bits(bits.data(), 2, 2, v1::DTYPE_BF16);
  EXPECT_EQ(made.data(), std::string("\x00\x3c\x00\x00\xff\x7b\x01\x00", 8));
  EXPECT_EQ(made.dtype(), v1::DTYPE_BF16);
  EXPECT_EQ(made.vocab_size(), 2u);
  EXPECT_THROW(tensor_of_bits(bits.data(), 2, 2, v1::DTYPE_F32), std::invalid_argument);
}

TEST(Tensor, RefusesWhatIsNoTensor) {
  EXPECT_THROW(tensor(std::vector<float>{}), std::invalid_argument);
  EXPECT_THROW(tensor(Rows(nullptr, 0, 4)), std::invalid_argument);
  EXPECT_THROW(tensor(std::string(7, 'x'), 2, 4, v1::DTYPE_BF16), std::invalid_argument);
  EXPECT_THROW(tensor(std::vector<float>{1.0F}, v1::DTYPE_F64), std::invalid_argument);
}

}  // namespace
}  // namespace samplerd
