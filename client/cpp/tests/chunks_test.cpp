#include <samplerd/client.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <thread>
#include <vector>

#include "fake_server.hpp"

namespace samplerd {
namespace {

using grpc::StatusCode;
using std::chrono::milliseconds;

v1::SampleResponse part(std::uint32_t number) {
  v1::SampleResponse reply;
  reply.add_samples(static_cast<std::int32_t>(number));
  reply.add_samples(9);
  reply.set_chunk(number);
  reply.set_final(number == 2);
  return reply;
}

ClientOptions fast() {
  ClientOptions options;
  options.retry.initial_backoff = milliseconds(1);
  options.retry.max_backoff = milliseconds(1);
  return options;
}

/// Takes all that is left; returns how it failed.
StatusCode take_all(Chunks& chunks, std::vector<std::uint64_t>& offsets) {
  try {
    for (const Chunk& chunk : chunks) {
      offsets.push_back(chunk.offset());
    }
  } catch (const Error& error) {
    return error.code();
  }
  return StatusCode::OK;
}

grpc::Status fall_silent(grpc::ServerContext& context) {
  while (!context.IsCancelled()) {
    std::this_thread::sleep_for(milliseconds(1));
  }
  return grpc::Status::CANCELLED;
}

TEST(Chunks, ComeInOrderAfterRefusals) {
  FakeServer server;
  int asked = 0;
  server.draw = [&](grpc::ServerContext&, const v1::SampleRequest&,
                    grpc::ServerWriter<v1::SampleResponse>& replies) {
    if (++asked < 3) {
      return grpc::Status(StatusCode::UNAVAILABLE, "not yet");
    }
    for (std::uint32_t number = 0; number < 3; ++number) {
      replies.Write(part(number));
    }
    return grpc::Status::OK;
  };
  const Client client(server.target(), fast());
  Chunks chunks = client.draw_chunks(v1::SampleRequest());
  std::vector<std::uint64_t> offsets;
  EXPECT_EQ(take_all(chunks, offsets), StatusCode::OK);
  EXPECT_EQ(offsets, (std::vector<std::uint64_t>{0, 2, 4}));
  EXPECT_FALSE(chunks.next());
  EXPECT_EQ(asked, 3);
}

TEST(Chunks, AreNotTriedAgainOnceTheyHaveBegun) {
  for (const StatusCode end : {StatusCode::OK, StatusCode::UNAVAILABLE}) {
    FakeServer server;
    int asked = 0;
    server.draw = [&](grpc::ServerContext&, const v1::SampleRequest&,
                      grpc::ServerWriter<v1::SampleResponse>& replies) {
      ++asked;
      replies.Write(part(0));
      return grpc::Status(end, "gone");
    };
    const Client client(server.target(), fast());
    Chunks chunks = client.draw_chunks(v1::SampleRequest());
    std::vector<std::uint64_t> offsets;
    EXPECT_EQ(take_all(chunks, offsets), StatusCode::UNAVAILABLE);
    EXPECT_EQ(offsets.size(), 1U);
    EXPECT_FALSE(chunks.next());
    EXPECT_EQ(asked, 1);
  }
}

TEST(Chunks, AreWaitedForNoLongerThanTheTimeout) {
  FakeServer server;
  server.draw = [](grpc::ServerContext& context, const v1::SampleRequest& request,
                   grpc::ServerWriter<v1::SampleResponse>& replies) {
    if (request.num_samples() > 0) {
      replies.Write(part(0));
    }
    return fall_silent(context);
  };
  const Client client(server.target());
  CallOptions call;
  call.timeout = milliseconds(100);
  v1::SampleRequest request;
  EXPECT_THROW(client.draw_chunks(request, call), Error);
  call.timeout = milliseconds(500);
  request.set_num_samples(1);
  Chunks chunks = client.draw_chunks(request, call);
  std::vector<std::uint64_t> offsets;
  EXPECT_EQ(take_all(chunks, offsets), StatusCode::DEADLINE_EXCEEDED);
  EXPECT_EQ(offsets.size(), 1U);
}

TEST(Chunks, EndTheCallWhenTheyAreLeftOrCancelled) {
  FakeServer server;
  std::promise<void> left;
  std::atomic<int> ended{0};
  server.draw = [&](grpc::ServerContext& context, const v1::SampleRequest&,
                    grpc::ServerWriter<v1::SampleResponse>& replies) {
    replies.Write(part(0));
    const grpc::Status status = fall_silent(context);
    if (++ended == 2) {
      left.set_value();
    }
    return status;
  };
  const Client client(server.target());
  {
    Chunks chunks = client.draw_chunks(v1::SampleRequest());
    EXPECT_TRUE(chunks.next());
  }
  CallOptions call;
  call.cancellation.emplace();
  Chunks chunks = client.draw_chunks(v1::SampleRequest(), call);
  EXPECT_TRUE(chunks.next());
  call.cancellation->cancel();
  std::vector<std::uint64_t> offsets;
  EXPECT_EQ(take_all(chunks, offsets), StatusCode::CANCELLED);
  left.get_future().wait();
}

}  // namespace
}  // namespace samplerd
