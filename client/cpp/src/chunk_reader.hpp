/// One call of SampleDistribution, read reply by reply, with a bound for each wait.
///
/// Rule 1: at most one operation is under way on the queue, and every function waits for it to be over. Rule 2: when a
/// wait is too long, or nobody wants the rest, the call is cancelled, and then its operations end at once.
#pragma once

#include <grpcpp/client_context.h>
#include <grpcpp/completion_queue.h>
#include <grpcpp/support/async_stream.h>
#include <samplerd/v1/sampler.grpc.pb.h>

#include <functional>
#include <memory>
#include <optional>

#include <samplerd/cancellation.hpp>

#include "retry.hpp"

namespace samplerd {

class ChunkReader {
 public:
  /// @param prepare fills the context of the call
  ChunkReader(v1::SamplerService::Stub& stub, const v1::SampleRequest& request,
              const std::function<void(grpc::ClientContext&)>& prepare,
              const std::optional<Cancellation>& cancellation);
  ~ChunkReader();
  ChunkReader(const ChunkReader&) = delete;
  ChunkReader& operator=(const ChunkReader&) = delete;

  /// Waits for the next reply; nothing after the last. Throws Error when the call failed or the time is over, and is not
  /// to be called again then.
  std::optional<v1::SampleResponse> read(SteadyTime until);

 private:
  /// Waits for the operation that is under way; returns whether it succeeded.
  bool await(SteadyTime until);
  grpc::Status finish();

  grpc::ClientContext context_;
  grpc::CompletionQueue queue_;
  std::optional<Cancellation> cancellation_;
  std::unique_ptr<grpc::ClientAsyncReader<v1::SampleResponse>> call_;
  std::optional<Cancellation::Listener> listener_;
  bool is_started_ = false;
  bool is_finished_ = false;
  bool is_late_ = false;
};

}  // namespace samplerd
