#include <samplerd/arrays.hpp>

#include <algorithm>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <utility>

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the numbers of a tensor are little-endian: this host would have to swap them"
#endif

namespace samplerd {
namespace {

std::uint32_t bits_of(float value) {
  static_assert(sizeof value == 4 && std::numeric_limits<float>::is_iec559);
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

std::size_t bytes_of(v1::Dtype dtype) {
  switch (dtype) {
    case v1::DTYPE_UNSPECIFIED:
    case v1::DTYPE_F32:
      return 4;
    case v1::DTYPE_F16:
    case v1::DTYPE_BF16:
      return 2;
    case v1::DTYPE_F64:
      return 8;
    default:
      throw std::invalid_argument("unknown dtype");
  }
}

template <class Round>
std::string rounded(Span<const float> values, Round round) {
  std::string data(values.size() * sizeof(std::uint16_t), '\0');
  char* to = data.data();
  for (float value : values) {
    const std::uint16_t bits = round(value);
    std::memcpy(to, &bits, sizeof bits);
    to += sizeof bits;
  }
  return data;
}

std::string encoded(Span<const float> values, v1::Dtype dtype) {
  switch (dtype) {
    case v1::DTYPE_UNSPECIFIED:
    case v1::DTYPE_F32:
      return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
    case v1::DTYPE_F16:
      return rounded(values, to_f16);
    case v1::DTYPE_BF16:
      return rounded(values, to_bf16);
    default:
      throw std::invalid_argument("rows of floats become DTYPE_F32, DTYPE_F16 or DTYPE_BF16");
  }
}

}  // namespace

std::uint16_t to_f16(float value) {
  const std::uint32_t bits = bits_of(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) {  // NaN: quiet, with what fits of its payload
    return static_cast<std::uint16_t>(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu));
  }
  if (magnitude >= 0x38800000u) {  // at least 2^-14: a normal binary16, or infinity
    std::uint32_t rebiased = magnitude - 0x38000000u;
    rebiased += 0xfffu + ((rebiased >> 13) & 1u);
    return static_cast<std::uint16_t>(sign | std::min(rebiased >> 13, 0x7c00u));
  }
  if (magnitude < 0x33000000u) {  // below 2^-25, half of the smallest
    return static_cast<std::uint16_t>(sign);
  }
  // A subnormal: a multiple of 2^-24.
  const std::uint32_t mantissa = (magnitude & 0x7fffffu) | 0x800000u;
  const std::uint32_t shift = 126u - (magnitude >> 23);
  const std::uint32_t rest = mantissa & ((1u << shift) - 1u);
  const std::uint32_t half = 1u << (shift - 1u);
  std::uint32_t count = mantissa >> shift;
  count += rest > half || (rest == half && (count & 1u) != 0u) ? 1u : 0u;
  return static_cast<std::uint16_t>(sign | count);
}

std::uint16_t to_bf16(float value) {
  const std::uint32_t bits = bits_of(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) {
    return static_cast<std::uint16_t>((bits >> 16) | 0x40u);
  }
  return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

v1::Tensor tensor(Rows rows, v1::Dtype dtype) {
  return tensor(encoded(rows.values(), dtype), rows.rows(), rows.vocab_size(), dtype);
}

v1::Tensor tensor(std::string data, std::size_t rows, std::size_t vocab_size, v1::Dtype dtype) {
  constexpr std::size_t kMost = std::numeric_limits<std::uint32_t>::max();
  if (rows < 1 || vocab_size < 1 || rows > kMost || vocab_size > kMost) {
    throw std::invalid_argument("a tensor has from 1 to 2^32 - 1 rows, and as many numbers in each");
  }
  if (data.size() != rows * vocab_size * bytes_of(dtype)) {
    throw std::invalid_argument("a tensor's data is rows x vocab_size x (bytes of dtype) long");
  }
  v1::Tensor made;
  made.set_dtype(dtype);
  made.set_rows(static_cast<std::uint32_t>(rows));
  made.set_vocab_size(static_cast<std::uint32_t>(vocab_size));
  *made.mutable_data() = std::move(data);
  return made;
}

v1::Tensor tensor_of_bits(const std::uint16_t* bits, std::size_t rows, std::size_t vocab_size,
                          v1::Dtype dtype) {
  if (dtype != v1::DTYPE_F16 && dtype != v1::DTYPE_BF16) {
    throw std::invalid_argument("16 bits are a number of DTYPE_F16 or DTYPE_BF16");
  }
  std::string data(reinterpret_cast<const char*>(bits), rows * vocab_size * sizeof *bits);
  return tensor(std::move(data), rows, vocab_size, dtype);
}

v1::SampleRequest request(Rows rows, v1::Dtype dtype) {
  v1::SampleRequest made;
  *made.mutable_tensor() = tensor(rows, dtype);
  return made;
}

}  // namespace samplerd
