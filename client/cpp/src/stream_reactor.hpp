/// One call that carries many requests: sent in turn, answered in any order, matched by id.
///
/// Who does what: a caller puts its request into the outbox and starts a write if none is in flight; gRPC's
/// threads run the reactions, at most one write and one read at a time. Rule 1: a request holds its place
/// among max_in_flight until its last reply has been taken. Rule 2: no operation of gRPC is started with the
/// mutex held, as its reaction may run at once on the same thread. Rule 3: only the reading reaction gives
/// replies to a receiver, so receivers need no lock. Rule 4: no reaction destroys
/// this: with it may go the last reference to the channel, which then waits for gRPC's threads.
#pragma once

#include <grpcpp/support/client_callback.h>
#include <samplerd/v1/sampler.grpc.pb.h>

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>

#include "receiver.hpp"

namespace samplerd {

class StreamReactor final : public grpc::ClientBidiReactor<v1::SampleRequest, v1::SampleResponse> {
 public:
  /// @throws std::invalid_argument max_in_flight is 0
  explicit StreamReactor(std::size_t max_in_flight);

  /// What the call carries; not to be touched after start().
  grpc::ClientContext& context() { return context_; }
  /// Opens the call. From then on abort() must have returned before this ends.
  void start(v1::SamplerService::Stub& stub);
  /// Sends a request once there is a place for it. Throws Error when the stream is over.
  void submit(v1::SampleRequest request, std::shared_ptr<Receiver> receiver);
  /// Requests that hold a place.
  std::size_t in_flight() const;
  /// Half-closes, waits up to `grace` for the call to end, and then cancels it.
  void close(std::chrono::milliseconds grace);
  /// Cancels and waits for the end.
  void abort();

 private:
  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnDone(const grpc::Status& status) override;

  void deliver();
  /// Lets the call end: submit() starts nothing from now on.
  void release_hold();

  const std::size_t max_in_flight_;
  grpc::ClientContext context_;
  v1::SampleResponse incoming_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::unordered_map<std::uint64_t, std::shared_ptr<Receiver>> receivers_;
  std::deque<v1::SampleRequest>
      outbox_;  // the first one is being written while is_writing_; bounded by the places
  std::uint64_t next_id_ = 1;
  bool is_writing_ = false;
  bool is_closing_ = false;    // no more requests come
  bool has_hold_ = false;      // of a caller on the call: operations may be started from outside reactions
  std::optional<Error> over_;  // why the stream is over
};

}  // namespace samplerd
