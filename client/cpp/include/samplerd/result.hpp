/// What was drawn.
#pragma once

#include <samplerd/v1/sampler.pb.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <samplerd/span.hpp>

namespace samplerd {

/// The reply to one request: the ids as an array, and all else as it came.
class SampleResult {
 public:
  /// @param num_samples S of the request; 0 means 1
  SampleResult(v1::SampleResponse response, std::uint32_t num_samples);

  /// B, the number of rows.
  std::size_t rows() const { return samples().size() / num_samples_; }
  /// S, the draws from each row.
  std::size_t num_samples() const { return num_samples_; }
  /// All ids: int32[B x S], row-major; -1 for the rows that failed.
  Span<const std::int32_t> samples() const;
  /// The ids drawn from one row: int32[S]. Throws std::out_of_range where there is no such row.
  Span<const std::int32_t> row(std::size_t index) const;
  /// The seed that was used: with it and the same row the draw can be repeated anywhere. 0 with row_seeds.
  std::uint64_t seed() const { return response_.seed(); }
  /// Name and version of the noise and of the law.
  const std::string& rng() const { return response_.rng(); }
  /// Whether each row could be drawn from.
  bool is_complete() const { return response_.row_errors().empty(); }
  /// The reply as it came: logprobs, ranks, entropies, row_errors, timing, ... A large draw of a stream is
  /// one reply here.
  const v1::SampleResponse& response() const { return response_; }

 private:
  v1::SampleResponse response_;
  std::vector<std::int32_t> unpacked_;  // of raw_samples, whose bytes need not be aligned
  std::size_t num_samples_;
};

}  // namespace samplerd
