#include "receiver.hpp"

#include <algorithm>
#include <utility>

#include "status.hpp"

namespace samplerd {

void Receiver::take(v1::SampleResponse&& reply) {
  if (is_done_) {
    return;
  }
  if (reply.has_error()) {
    fail(std::make_exception_ptr(error_of(reply.error())));
    return;
  }
  is_done_ = reply.final();
  reply.set_id(id_);
  try {
    on_reply(std::move(reply));
  } catch (...) {  // the caller's own, out of its callback
    is_done_ = false;
    fail(std::current_exception());
  }
}

void Receiver::fail(std::exception_ptr error) {
  if (!std::exchange(is_done_, true)) {
    on_error(std::move(error));
  }
}

void Collector::on_reply(v1::SampleResponse&& reply) {
  const bool is_last = reply.final();
  if (whole_) {
    append_chunk(*whole_, reply);
  } else {
    whole_ = std::move(reply);
  }
  if (is_last) {
    promise_.set_value(SampleResult(std::move(*whole_), num_samples_));
  }
}

void Forwarder::on_reply(v1::SampleResponse&& reply) {
  on_chunk_(reply);
  if (reply.final()) {
    promise_.set_value();
  }
}

void append_chunk(v1::SampleResponse& whole, const v1::SampleResponse& chunk) {
  whole.mutable_samples()->MergeFrom(chunk.samples());
  whole.mutable_raw_samples()->append(chunk.raw_samples());
  whole.mutable_ranks()->MergeFrom(chunk.ranks());
  whole.mutable_adaptive_weighted_sum()->MergeFrom(chunk.adaptive_weighted_sum());
  whole.mutable_adaptive_total_weight()->MergeFrom(chunk.adaptive_total_weight());
  const int kinds = std::min(whole.logprobs_size(), chunk.logprobs_size());
  for (int kind = 0; kind < kinds; ++kind) {
    auto& ours = *whole.mutable_logprobs(kind);
    ours.mutable_samples()->MergeFrom(chunk.logprobs(kind).samples());
    ours.mutable_raw_samples()->append(chunk.logprobs(kind).raw_samples());
  }
  whole.set_final(chunk.final());
}

}  // namespace samplerd
