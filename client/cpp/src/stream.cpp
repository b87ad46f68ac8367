#include <samplerd/stream.hpp>

#include <utility>

#include "stream_reactor.hpp"

namespace samplerd {

Stream::Stream(std::shared_ptr<StreamReactor> reactor) : reactor_(std::move(reactor)) {}

Stream::~Stream() {
  if (reactor_) {
    reactor_->abort();
  }
}

Stream::Stream(Stream&&) noexcept = default;

Stream& Stream::operator=(Stream&& other) noexcept {
  if (this != &other) {
    Stream old(std::exchange(reactor_, std::move(other.reactor_)));
  }
  return *this;
}

std::future<SampleResult> Stream::submit(v1::SampleRequest request) {
  auto receiver = std::make_shared<Collector>(request);
  auto future = receiver->future();
  reactor_->submit(std::move(request), std::move(receiver));
  return future;
}

std::future<void> Stream::submit(v1::SampleRequest request, OnChunk on_chunk) {
  auto receiver = std::make_shared<Forwarder>(request, std::move(on_chunk));
  auto future = receiver->future();
  reactor_->submit(std::move(request), std::move(receiver));
  return future;
}

std::size_t Stream::in_flight() const {
  return reactor_->in_flight();
}

void Stream::close(std::chrono::milliseconds grace) {
  reactor_->close(grace);
}

void Stream::abort() {
  reactor_->abort();
}

}  // namespace samplerd
