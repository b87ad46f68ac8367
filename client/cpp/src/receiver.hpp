/// Who waits for the replies to one request of a stream.
#pragma once

#include <samplerd/v1/sampler.pb.h>

#include <cstdint>
#include <exception>
#include <future>
#include <optional>

#include <samplerd/error.hpp>
#include <samplerd/result.hpp>
#include <samplerd/stream.hpp>

namespace samplerd {

/// Takes replies until the last one, or a failure. It is done after that, and ignores what comes.
class Receiver {
 public:
  explicit Receiver(std::uint64_t id) : id_(id) {}
  virtual ~Receiver() = default;
  Receiver(const Receiver&) = delete;
  Receiver& operator=(const Receiver&) = delete;

  /// Takes the next reply; nothing is thrown.
  void take(v1::SampleResponse&& reply);
  /// Takes the failure of the request, or of the stream.
  void fail(std::exception_ptr error);

 protected:
  virtual void on_reply(v1::SampleResponse&& reply) = 0;
  virtual void on_error(std::exception_ptr error) = 0;

 private:
  const std::uint64_t id_;  // the caller's own
  bool is_done_ = false;
};

/// Puts all chunks together.
class Collector final : public Receiver {
 public:
  explicit Collector(const v1::SampleRequest& request)
      : Receiver(request.id()), num_samples_(request.num_samples()) {}
  std::future<SampleResult> future() { return promise_.get_future(); }

 private:
  void on_reply(v1::SampleResponse&& reply) override;
  void on_error(std::exception_ptr error) override { promise_.set_exception(error); }

  const std::uint32_t num_samples_;
  std::optional<v1::SampleResponse> whole_;
  std::promise<SampleResult> promise_;
};

/// Gives each chunk away.
class Forwarder final : public Receiver {
 public:
  Forwarder(const v1::SampleRequest& request, Stream::OnChunk on_chunk)
      : Receiver(request.id()), on_chunk_(std::move(on_chunk)) {}
  std::future<void> future() { return promise_.get_future(); }

 private:
  void on_reply(v1::SampleResponse&& reply) override;
  void on_error(std::exception_ptr error) override { promise_.set_exception(error); }

  const Stream::OnChunk on_chunk_;
  std::promise<void> promise_;
};

/// Adds a chunk to those before it: what there is per sample grows, and the rest is as chunk 0 said.
void append_chunk(v1::SampleResponse& whole, const v1::SampleResponse& chunk);

}  // namespace samplerd
