/// Large draws, chunk by chunk.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <optional>
#include <utility>

#include <samplerd/result.hpp>

namespace samplerd {

class ChunkReader;

/// A part of a large draw.
class Chunk {
 public:
  /// Made by Chunks.
  Chunk(v1::SampleResponse response, std::uint64_t offset) : result_(std::move(response), 1), offset_(offset) {}

  /// Index of its first id in the row-major sequence of all rows x S ids.
  std::uint64_t offset() const { return offset_; }
  /// The ids drawn, in whichever form they came.
  Span<const std::int32_t> samples() const { return result_.samples(); }
  /// What came with them: its number (chunk), the seed that was used, whether it is the last (final).
  const v1::SampleResponse& response() const { return result_.response(); }

 private:
  SampleResult result_;
  std::uint64_t offset_;
};

/// A large draw from an uploaded distribution, in order; Client::draw_chunks() makes one. For one thread. It may
/// outlive the client.
///
/// The server draws as the chunks are taken. The destructor ends the call wherever it is.
class Chunks {
 public:
  /// Made by Client::draw_chunks().
  Chunks(std::unique_ptr<ChunkReader> reader, std::optional<v1::SampleResponse> first,
         std::chrono::milliseconds wait);
  ~Chunks();
  Chunks(Chunks&&) noexcept;
  Chunks& operator=(Chunks&&) noexcept;

  /// Waits for the next chunk, no longer than the timeout of the call; nothing after the last one, or after a
  /// failure.
  /// @throws Error DEADLINE_EXCEEDED: it took too long; UNAVAILABLE: the call ended before the last one; or as
  /// the server says
  std::optional<Chunk> next();

  /// What a for loop over the chunks needs; each is given once.
  class Iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = Chunk;
    using difference_type = std::ptrdiff_t;
    using pointer = const Chunk*;
    using reference = const Chunk&;

    Iterator() = default;
    explicit Iterator(Chunks& chunks) : chunks_(&chunks), chunk_(chunks.next()) {}
    reference operator*() const { return *chunk_; }
    pointer operator->() const { return &*chunk_; }
    Iterator& operator++() {
      chunk_ = chunks_->next();
      return *this;
    }
    void operator++(int) { ++*this; }
    bool operator==(const Iterator& other) const { return chunk_.has_value() == other.chunk_.has_value(); }
    bool operator!=(const Iterator& other) const { return !(*this == other); }

   private:
    Chunks* chunks_ = nullptr;
    std::optional<Chunk> chunk_;
  };
  Iterator begin() { return Iterator(*this); }
  Iterator end() { return {}; }

 private:
  std::unique_ptr<ChunkReader> reader_;  // until nothing more is wanted
  std::optional<v1::SampleResponse> first_;
  std::chrono::milliseconds wait_;
  std::uint64_t offset_ = 0;
  bool is_final_ = false;
};

}  // namespace samplerd
