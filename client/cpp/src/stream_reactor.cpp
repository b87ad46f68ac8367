#include "stream_reactor.hpp"

#include <stdexcept>
#include <utility>

#include "status.hpp"

namespace samplerd {

StreamReactor::StreamReactor(std::size_t max_in_flight) : max_in_flight_(max_in_flight) {
  if (max_in_flight < 1) {
    throw std::invalid_argument("max_in_flight is at least 1");
  }
}

void StreamReactor::start(v1::SamplerService::Stub& stub) {
  has_hold_ = true;
  stub.async()->SampleStream(&context_, this);
  AddHold();
  StartRead(&incoming_);
  StartCall();
}

void StreamReactor::submit(v1::SampleRequest request, std::shared_ptr<Receiver> receiver) {
  const v1::SampleRequest* first = nullptr;
  {
    std::unique_lock lock(mutex_);
    // Without the hold the call is ending: what for is told by over_, in a moment.
    changed_.wait(
        lock, [this] { return over_ || is_closing_ || (has_hold_ && receivers_.size() < max_in_flight_); });
    if (over_) {
      throw *over_;
    }
    if (is_closing_) {
      throw Error(grpc::StatusCode::CANCELLED, "the stream is closed");
    }
    request.set_id(next_id_);
    receivers_.emplace(next_id_++, std::move(receiver));
    outbox_.push_back(std::move(request));
    if (is_writing_) {
      return;
    }
    is_writing_ = true;
    first = &outbox_.front();
    AddHold();  // the other one may go while the write is being started
  }
  StartWrite(first);
  RemoveHold();
}

std::size_t StreamReactor::in_flight() const {
  const std::lock_guard lock(mutex_);
  return receivers_.size();
}

void StreamReactor::close(std::chrono::milliseconds grace) {
  bool is_idle = false;
  {
    const std::lock_guard lock(mutex_);
    if (!std::exchange(is_closing_, true) && has_hold_ && !is_writing_) {
      is_idle = true;
      is_writing_ = true;
      AddHold();
    }
    changed_.notify_all();
  }
  if (is_idle) {
    StartWritesDone();
    RemoveHold();
  }
  {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, grace, [this] { return over_.has_value(); });
  }
  abort();
}

void StreamReactor::abort() {
  {
    const std::lock_guard lock(mutex_);
    is_closing_ = true;
    changed_.notify_all();
  }
  context_.TryCancel();
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return over_.has_value(); });
}

void StreamReactor::OnReadDone(bool ok) {
  if (!ok) {
    release_hold();  // OnDone() tells why
    return;
  }
  deliver();
  incoming_.Clear();
  StartRead(&incoming_);
}

void StreamReactor::deliver() {
  const std::uint64_t id = incoming_.id();
  std::shared_ptr<Receiver> receiver;
  {
    const std::lock_guard lock(mutex_);
    const auto found = receivers_.find(id);
    if (found == receivers_.end()) {
      return;  // answered already; a server that answers twice harms nobody
    }
    receiver = found->second;
  }
  const bool is_last = incoming_.final() || incoming_.has_error();
  receiver->take(std::move(incoming_));
  if (is_last) {
    const std::lock_guard lock(mutex_);
    receivers_.erase(id);
    changed_.notify_all();
  }
}

void StreamReactor::OnWriteDone(bool ok) {
  const v1::SampleRequest* next = nullptr;
  bool is_closing = false;
  {
    const std::lock_guard lock(mutex_);
    outbox_.pop_front();
    if (!ok) {
      return;  // the call is over, and OnDone() tells why; is_writing_ stays, so that nothing more is written
    }
    next = outbox_.empty() ? nullptr : &outbox_.front();
    is_closing = is_closing_;
    is_writing_ = next != nullptr || is_closing;
  }
  if (next != nullptr) {
    StartWrite(next);
  } else if (is_closing) {
    StartWritesDone();
  }
}

void StreamReactor::release_hold() {
  {
    const std::lock_guard lock(mutex_);
    if (!std::exchange(has_hold_, false)) {
      return;
    }
  }
  RemoveHold();
}

void StreamReactor::OnDone(const grpc::Status& status) {
  Error why = error_of(status, context_.GetServerTrailingMetadata());
  std::unordered_map<std::uint64_t, std::shared_ptr<Receiver>> waiting;
  {
    const std::lock_guard lock(mutex_);
    if (status.ok()) {
      why = is_closing_ ? Error(grpc::StatusCode::CANCELLED, "the stream is closed")
                        : Error(grpc::StatusCode::UNAVAILABLE, "the server ended the stream");
    }
    waiting.swap(receivers_);
    outbox_.clear();
  }
  for (auto& [id, receiver] : waiting) {
    receiver->fail(std::make_exception_ptr(why));
  }
  const std::lock_guard lock(mutex_);
  over_ = why;
  changed_.notify_all();
}

}  // namespace samplerd
