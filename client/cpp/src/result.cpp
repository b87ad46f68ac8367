#include <samplerd/result.hpp>

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <utility>

namespace samplerd {

SampleResult::SampleResult(v1::SampleResponse response, std::uint32_t num_samples)
    : response_(std::move(response)), num_samples_(std::max<std::uint32_t>(num_samples, 1)) {
  const std::string& raw = response_.raw_samples();
  unpacked_.resize(raw.size() / sizeof(std::int32_t));
  if (!unpacked_.empty()) {
    std::memcpy(unpacked_.data(), raw.data(), unpacked_.size() * sizeof(std::int32_t));
  }
}

Span<const std::int32_t> SampleResult::samples() const {
  if (!unpacked_.empty()) {
    return unpacked_;
  }
  return {response_.samples().data(), static_cast<std::size_t>(response_.samples_size())};
}

Span<const std::int32_t> SampleResult::row(std::size_t index) const {
  if (index >= rows()) {
    throw std::out_of_range("there is no such row");
  }
  return samples().subspan(index * num_samples_, num_samples_);
}

}  // namespace samplerd
