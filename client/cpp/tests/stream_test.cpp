#include <samplerd/client.hpp>

#include <gtest/gtest.h>

#include <future>
#include <stdexcept>
#include <thread>
#include <vector>

#include "fake_server.hpp"

namespace samplerd {
namespace {

using grpc::StatusCode;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ServerStream = grpc::ServerReaderWriter<v1::SampleResponse, v1::SampleRequest>;

v1::SampleRequest request_of(std::uint64_t id) {
  auto made = request(std::array<float, 2>{0.0F, 0.0F});
  made.set_id(id);
  made.set_seed(id);
  return made;
}

v1::SampleResponse reply_to(const v1::SampleRequest& request) {
  v1::SampleResponse reply;
  reply.set_id(request.id());
  reply.set_seed(request.seed());
  reply.set_final(true);
  return reply;
}

template <class Future>
StatusCode code_of(Future&& future) {
  try {
    future.get();
  } catch (const Error& error) {
    return error.code();
  }
  return StatusCode::OK;
}

/// Answers all requests once the last has come, the last one first.
grpc::Status answer_backwards(ServerStream& stream) {
  std::vector<v1::SampleRequest> requests;
  for (v1::SampleRequest request; stream.Read(&request);) {
    requests.push_back(request);
  }
  for (auto request = requests.rbegin(); request != requests.rend(); ++request) {
    stream.Write(reply_to(*request));
  }
  return grpc::Status::OK;
}

/// Answers each request as it comes.
grpc::Status answer_each(ServerStream& stream) {
  for (v1::SampleRequest request; stream.Read(&request);) {
    stream.Write(reply_to(request));
  }
  return grpc::Status::OK;
}

TEST(Stream, MatchesRepliesToRequests) {
  FakeServer server;
  server.converse = answer_backwards;
  Stream stream = Client(server.target()).stream();
  std::vector<std::future<SampleResult>> futures;
  for (std::uint64_t id = 100; id < 150; ++id) {
    futures.push_back(stream.submit(request_of(id)));
  }
  EXPECT_EQ(stream.in_flight(), 50U);
  stream.close();
  for (std::uint64_t id = 100; id < 150; ++id) {
    const auto result = futures[id - 100].get();
    EXPECT_EQ(result.response().id(), id);
    EXPECT_EQ(result.seed(), id);
  }
  EXPECT_THROW(stream.submit(request_of(1)), Error);
}

TEST(Stream, HoldsNoMoreThanItMay) {
  FakeServer server;
  server.converse = answer_each;
  StreamOptions options;
  options.max_in_flight = 3;
  Stream stream = Client(server.target()).stream(options);
  std::vector<std::future<SampleResult>> futures;
  for (std::uint64_t id = 0; id < 500; ++id) {
    futures.push_back(stream.submit(request_of(id)));
    ASSERT_LE(stream.in_flight(), 3U);
  }
  for (std::uint64_t id = 0; id < 500; ++id) {
    EXPECT_EQ(futures[id].get().seed(), id);
  }
}

TEST(Stream, FailsOneRequestAlone) {
  FakeServer server;
  server.converse = [](ServerStream& stream) {
    for (v1::SampleRequest request; stream.Read(&request);) {
      auto reply = reply_to(request);
      if (request.seed() == 2) {
        reply.mutable_error()->set_code(StatusCode::INVALID_ARGUMENT);
      }
      stream.Write(reply);
    }
    return grpc::Status::OK;
  };
  Stream stream = Client(server.target()).stream();
  auto good = stream.submit(request_of(1));
  auto bad = stream.submit(request_of(2));
  auto late = stream.submit(request_of(3));
  EXPECT_EQ(code_of(good), StatusCode::OK);
  EXPECT_EQ(code_of(bad), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(code_of(late), StatusCode::OK);
}

grpc::Status answer_in_chunks(ServerStream& stream) {
  for (v1::SampleRequest request; stream.Read(&request);) {
    for (std::uint32_t chunk = 0; chunk < 3; ++chunk) {
      auto reply = reply_to(request);
      reply.set_chunk(chunk);
      reply.set_final(chunk == 2);
      reply.add_samples(static_cast<int>(chunk));
      reply.add_logprobs()->add_samples(static_cast<float>(chunk));
      stream.Write(reply);
    }
  }
  return grpc::Status::OK;
}

TEST(Stream, PutsChunksTogether) {
  FakeServer server;
  server.converse = answer_in_chunks;
  Stream stream = Client(server.target()).stream();
  auto asked = request_of(1);
  asked.set_num_samples(3);
  const auto result = stream.submit(asked).get();
  EXPECT_EQ(result.rows(), 1U);
  EXPECT_EQ(result.row(0)[2], 2);
  ASSERT_EQ(result.response().logprobs_size(), 1);
  EXPECT_EQ(result.response().logprobs(0).samples(2), 2.0F);
}

TEST(Stream, GivesChunksAwayAsTheyCome) {
  FakeServer server;
  server.converse = answer_in_chunks;
  Stream stream = Client(server.target()).stream();
  std::vector<int> ids;
  stream.submit(request_of(9), [&](const v1::SampleResponse& chunk) { ids.push_back(chunk.samples(0)); })
      .get();
  EXPECT_EQ(ids, (std::vector<int>{0, 1, 2}));
  auto failing =
      stream.submit(request_of(9), [](const v1::SampleResponse&) { throw std::logic_error("mine"); });
  EXPECT_THROW(failing.get(), std::logic_error);
  EXPECT_EQ(code_of(stream.submit(request_of(9))), StatusCode::OK);
}

TEST(Stream, TellsAllWhoWaitThatItBroke) {
  FakeServer server;
  server.converse = [](ServerStream& stream) {
    v1::SampleRequest request;
    stream.Read(&request);
    return grpc::Status(StatusCode::UNAVAILABLE, "draining");
  };
  Stream stream = Client(server.target()).stream();
  auto first = stream.submit(request_of(1));
  EXPECT_EQ(code_of(first), StatusCode::UNAVAILABLE);
  EXPECT_THROW(stream.submit(request_of(2)), Error);
}

TEST(Stream, EndsWhoWaitsForAPlaceToo) {
  FakeServer server;
  server.converse = answer_backwards;  // never, as nobody closes
  StreamOptions options;
  options.max_in_flight = 1;
  options.timeout = milliseconds(50);
  Stream stream = Client(server.target()).stream(options);
  auto first = stream.submit(request_of(1));
  EXPECT_THROW(stream.submit(request_of(2)), Error);
  EXPECT_EQ(code_of(first), StatusCode::DEADLINE_EXCEEDED);
}

TEST(Stream, CancelsWhatWaitsWhenItIsDropped) {
  FakeServer server;
  server.converse = answer_backwards;
  std::future<SampleResult> future;
  {
    Stream stream = Client(server.target()).stream();
    future = stream.submit(request_of(1));
  }
  EXPECT_EQ(code_of(future), StatusCode::CANCELLED);
}

TEST(Stream, MayBeUsedByManyThreads) {
  FakeServer server;
  server.converse = answer_each;
  StreamOptions options;
  options.max_in_flight = 4;
  Stream stream = Client(server.target()).stream(options);
  std::vector<std::future<bool>> workers;
  for (std::uint64_t worker = 0; worker < 4; ++worker) {
    workers.push_back(std::async(std::launch::async, [&stream, worker] {
      bool all = true;
      for (std::uint64_t id = worker * 1000; id < worker * 1000 + 100; ++id) {
        all = stream.submit(request_of(id)).get().seed() == id && all;
      }
      return all;
    }));
  }
  for (auto& worker : workers) {
    EXPECT_TRUE(worker.get());
  }
  stream.close();
}

}  // namespace
}  // namespace samplerd
