/// A view of contiguous values that somebody else keeps: what std::span is in C++20.
#pragma once

#include <cstddef>
#include <type_traits>
#include <vector>

namespace samplerd {

/// Pointer and size. It owns nothing: what it views must outlive it.
template <class T>
class Span {
 public:
  constexpr Span() = default;
  constexpr Span(T* data, std::size_t size) : data_(data), size_(size) {}
  /// Views a vector.
  template <class U, class = std::enable_if_t<std::is_convertible_v<const U*, T*>>>
  Span(const std::vector<U>& values) : data_(values.data()), size_(values.size()) {}

  constexpr T* data() const { return data_; }
  constexpr std::size_t size() const { return size_; }
  constexpr bool empty() const { return size_ == 0; }
  constexpr T* begin() const { return data_; }
  constexpr T* end() const { return data_ + size_; }
  /// The value at an index below size(), which is not checked.
  constexpr T& operator[](std::size_t index) const { return data_[index]; }
  /// `count` values from `offset`; offset + count must not exceed size(), which is not checked.
  constexpr Span subspan(std::size_t offset, std::size_t count) const { return {data_ + offset, count}; }

 private:
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace samplerd
