/// Rows of floats, and the tensors that carry them.
#pragma once

#include <samplerd/v1/sampler.pb.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <samplerd/span.hpp>

namespace samplerd {

/// A view of B rows of V numbers, row-major, without padding. It owns nothing: what it views must outlive it.
class Rows {
 public:
  /// One row.
  Rows(const std::vector<float>& row) : Rows(row.data(), 1, row.size()) {}
  /// One row.
  template <std::size_t V>
  Rows(const std::array<float, V>& row) : Rows(row.data(), 1, V) {}
  /// `rows` x `vocab_size` numbers.
  Rows(const float* data, std::size_t rows, std::size_t vocab_size)
      : data_(data), rows_(rows), vocab_size_(vocab_size) {}

  std::size_t rows() const { return rows_; }
  std::size_t vocab_size() const { return vocab_size_; }
  /// All numbers: float[rows x vocab_size].
  Span<const float> values() const { return {data_, rows_ * vocab_size_}; }

 private:
  const float* data_;
  std::size_t rows_;
  std::size_t vocab_size_;
};

/// The bits of the nearest binary16, ties to even. NaN stays NaN; beyond +-65504 and the rounding, infinity.
std::uint16_t to_f16(float value);

/// The bits of the nearest bfloat16, ties to even. NaN stays NaN; beyond the range, infinity.
std::uint16_t to_bf16(float value);

/// Rows as the wire has them, copied at once (f32) or rounded (f16, bf16).
///
/// @param rows  float[B, V]; B and V at least 1
/// @param dtype DTYPE_F32 (4 bytes a number), DTYPE_F16 or DTYPE_BF16 (2 bytes)
/// @throws std::invalid_argument no rows, empty rows, more than 2^32 - 1 of either, or another dtype
v1::Tensor tensor(Rows rows, v1::Dtype dtype = v1::DTYPE_F32);

/// Rows that are already as the wire has them (little-endian, of any dtype): moved, not copied.
///
/// @param data exactly rows x vocab_size x (bytes of dtype)
/// @throws std::invalid_argument another length
v1::Tensor tensor(std::string data, std::size_t rows, std::size_t vocab_size, v1::Dtype dtype);

/// Rows of numbers that are binary16 or bfloat16 already, given by their bits: copied at once, as protobuf's
/// bytes own their memory. C++17 has no type for these numbers.
///
/// @param bits  uint16[rows, vocab_size]
/// @param dtype DTYPE_F16 or DTYPE_BF16
/// @throws std::invalid_argument no rows, empty rows, or another dtype
v1::Tensor tensor_of_bits(const std::uint16_t* bits, std::size_t rows, std::size_t vocab_size,
                          v1::Dtype dtype);

/// A request for one draw from each row; set what else you want of it:
/// `mutable_params()->set_temperature(0.7)`, `set_num_samples(5)`, `set_seed(1)`,
/// `mutable_outputs()->set_rank(true)`, ...
v1::SampleRequest request(Rows rows, v1::Dtype dtype = v1::DTYPE_F32);

}  // namespace samplerd
