#include "chunk_reader.hpp"

#include "status.hpp"

namespace samplerd {

ChunkReader::ChunkReader(v1::SamplerService::Stub& stub, const v1::SampleRequest& request,
                         const std::function<void(grpc::ClientContext&)>& prepare,
                         const std::optional<Cancellation>& cancellation)
    : cancellation_(cancellation) {
  prepare(context_);
  call_ = stub.PrepareAsyncSampleDistribution(&context_, request, &queue_);
  if (cancellation_) {
    listener_.emplace(*cancellation_, [this] { context_.TryCancel(); });
  }
}

ChunkReader::~ChunkReader() {
  listener_.reset();
  if (is_started_ && !is_finished_) {
    context_.TryCancel();
    finish();
  }
  queue_.Shutdown();
  void* tag = nullptr;
  bool is_ok = false;
  while (queue_.Next(&tag, &is_ok)) {
  }
}

std::optional<v1::SampleResponse> ChunkReader::read(SteadyTime until) {
  v1::SampleResponse reply;
  bool is_open = true;
  if (!is_started_) {
    is_started_ = true;
    call_->StartCall(this);
    is_open = await(until);
  }
  if (is_open) {
    call_->Read(&reply, this);
    if (await(until)) {
      return reply;
    }
  }
  const grpc::Status status = finish();
  if (is_late_) {
    throw Error(grpc::StatusCode::DEADLINE_EXCEEDED, "no chunk came in time");
  }
  if (status.ok()) {
    return std::nullopt;
  }
  const Error error = error_of(status, context_.GetServerTrailingMetadata());
  const bool is_asked_for = cancellation_ && cancellation_->is_cancelled();
  ErrorDetails details{error.violations(), error.retry_after(), !error.may_retry(),
                       error.code() == grpc::StatusCode::CANCELLED && !is_asked_for};
  throw Error(error.code(), error.what(), std::move(details));
}

bool ChunkReader::await(SteadyTime until) {
  void* tag = nullptr;
  bool is_ok = false;
  const auto end = std::chrono::system_clock::now() + (until - std::chrono::steady_clock::now());
  if (queue_.AsyncNext(&tag, &is_ok, end) == grpc::CompletionQueue::TIMEOUT) {
    is_late_ = true;
    context_.TryCancel();
    queue_.Next(&tag, &is_ok);
    return false;
  }
  return is_ok;
}

grpc::Status ChunkReader::finish() {
  grpc::Status status;
  is_finished_ = true;
  call_->Finish(&status, this);
  void* tag = nullptr;
  bool is_ok = false;
  queue_.Next(&tag, &is_ok);
  return status;
}

}  // namespace samplerd
