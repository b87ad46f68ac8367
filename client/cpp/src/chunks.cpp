#include <samplerd/chunks.hpp>

#include <utility>

#include "chunk_reader.hpp"

namespace samplerd {

Chunks::Chunks(std::unique_ptr<ChunkReader> reader, std::optional<v1::SampleResponse> first,
               std::chrono::milliseconds wait)
    : reader_(std::move(reader)), first_(std::move(first)), wait_(wait) {}

Chunks::~Chunks() = default;
Chunks::Chunks(Chunks&&) noexcept = default;
Chunks& Chunks::operator=(Chunks&&) noexcept = default;

std::optional<Chunk> Chunks::next() {
  if (!reader_) {
    return std::nullopt;
  }
  std::optional<v1::SampleResponse> reply = std::exchange(first_, std::nullopt);
  try {
    if (!reply) {
      reply = reader_->read(end_of(wait_));
    }
    if (!reply && !is_final_) {
      throw Error(grpc::StatusCode::UNAVAILABLE, "the server ended the call before the last chunk");
    }
  } catch (const Error&) {
    reader_.reset();
    if (is_final_) {
      return std::nullopt;  // all has come, however the call then ended
    }
    throw;
  }
  if (!reply || is_final_) {
    reader_.reset();
    return std::nullopt;
  }
  is_final_ = reply->final();
  Chunk chunk(std::move(*reply), offset_);
  offset_ += chunk.samples().size();
  return chunk;
}

}  // namespace samplerd
