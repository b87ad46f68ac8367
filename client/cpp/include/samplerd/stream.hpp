/// Many requests over one call, each answered when it is ready.
#pragma once

#include <samplerd/v1/sampler.pb.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <future>
#include <memory>

#include <samplerd/result.hpp>

namespace samplerd {

class StreamReactor;

/// An open stream; Client::stream() makes one. All members but close(), abort() and the destructor may be
/// called from many threads at once; none of these three from an OnChunk.
///
/// A request that fails throws from its own future and from no other. When the stream itself breaks, every
/// future that waits throws, submit() throws, and nothing is sent again behind your back. What a stream asks
/// is not retried: see Error::is_retryable() and Error::retry_after().
class Stream {
 public:
  /// Takes one chunk of a large draw: the next part of the same row-major sequence. Called on a thread of
  /// gRPC's; the server is held back until it returns. What it throws, the future throws.
  using OnChunk = std::function<void(const v1::SampleResponse&)>;

  /// Made by Client::stream().
  explicit Stream(std::shared_ptr<StreamReactor> reactor);
  /// Calls abort().
  ~Stream();
  Stream(Stream&&) noexcept;
  Stream& operator=(Stream&&) noexcept;

  /// Sends a request, once fewer than max_in_flight are in flight: until then it blocks. The stream numbers
  /// its requests itself; in the reply the id is your own again. A large draw, which comes in chunks, is put
  /// together.
  ///
  /// To give up on one request, drop its future: it keeps its place until the server has answered.
  /// @throws Error the stream is broken or closed
  std::future<SampleResult> submit(v1::SampleRequest request);

  /// The same, but each chunk is given to `on_chunk` as it comes and not kept; the future says that all have
  /// come.
  std::future<void> submit(v1::SampleRequest request, OnChunk on_chunk);

  /// Requests sent, or about to be, and not answered.
  std::size_t in_flight() const;

  /// Says that no more requests come, waits up to `grace` for the replies to those in flight, and ends the
  /// stream.
  void close(std::chrono::milliseconds grace = std::chrono::seconds(30));

  /// Ends the stream at once; futures that wait throw CANCELLED.
  void abort();

 private:
  std::shared_ptr<StreamReactor> reactor_;
};

}  // namespace samplerd
