#include <samplerd/client.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <thread>

#include "fake_server.hpp"

namespace samplerd {
namespace {

using grpc::StatusCode;
using std::chrono::milliseconds;

const std::array<float, 4> kRow{1.0F, 2.0F, 0.5F, 1.5F};

template <class Action>
StatusCode code_of(Action action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code();
  }
  return StatusCode::OK;
}

grpc::Status wait_until_cancelled(grpc::ServerContext& context, const v1::SampleRequest&,
                                  v1::SampleResponse&) {
  while (!context.IsCancelled()) {
    std::this_thread::sleep_for(milliseconds(1));
  }
  return grpc::Status::CANCELLED;
}

TEST(Client, SendsRowsAndTheToken) {
  FakeServer server;
  std::string authorization;
  server.answer = [&](grpc::ServerContext& context, const v1::SampleRequest& request,
                      v1::SampleResponse& reply) {
    const auto found = context.client_metadata().find("authorization");
    authorization = std::string(found->second.data(), found->second.size());
    reply.add_samples(static_cast<int>(request.tensor().data().size()));
    return grpc::Status::OK;
  };
  ClientOptions options;
  options.token = "secret";
  const Client client(server.target(), options);
  EXPECT_EQ(client.sample(kRow).samples()[0], 16);
  EXPECT_EQ(authorization, "Bearer secret");
}

TEST(Client, AsksAgainWhenTheServerSaysSo) {
  FakeServer server;
  int asked = 0;
  server.answer = [&](grpc::ServerContext& context, const v1::SampleRequest&, v1::SampleResponse& reply) {
    if (++asked < 3) {
      context.AddTrailingMetadata("grpc-retry-pushback-ms", "1");
      return grpc::Status(StatusCode::RESOURCE_EXHAUSTED, "full");
    }
    reply.add_samples(7);
    return grpc::Status::OK;
  };
  EXPECT_EQ(Client(server.target()).sample(kRow).samples()[0], 7);
  EXPECT_EQ(asked, 3);
}

TEST(Client, DoesNotAskAgainWhenTheServerForbidsIt) {
  FakeServer server;
  int asked = 0;
  server.answer = [&](grpc::ServerContext& context, const v1::SampleRequest&, v1::SampleResponse&) {
    ++asked;
    context.AddTrailingMetadata("grpc-retry-pushback-ms", "-1");
    return grpc::Status(StatusCode::RESOURCE_EXHAUSTED, "full");
  };
  const Client client(server.target());
  EXPECT_EQ(code_of([&] { client.sample(kRow); }), StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(asked, 1);
}

TEST(Client, EndsAtItsDeadline) {
  FakeServer server;
  server.answer = wait_until_cancelled;
  const Client client(server.target());
  CallOptions call;
  call.timeout = milliseconds(20);
  EXPECT_EQ(code_of([&] { client.sample(kRow, call); }), StatusCode::DEADLINE_EXCEEDED);
}

TEST(Client, EndsWhenCancelled) {
  FakeServer server;
  std::promise<void> has_come;
  server.answer = [&](grpc::ServerContext& context, const v1::SampleRequest& request,
                      v1::SampleResponse& reply) {
    has_come.set_value();
    return wait_until_cancelled(context, request, reply);
  };
  const Client client(server.target());
  CallOptions call;
  call.cancellation.emplace();
  auto code = std::async(std::launch::async, [&] { return code_of([&] { client.sample(kRow, call); }); });
  has_come.get_future().wait();
  call.cancellation->cancel();
  EXPECT_EQ(code.get(), StatusCode::CANCELLED);
  EXPECT_EQ(code_of([&] { client.sample(kRow, call); }), StatusCode::CANCELLED);  // and all that come after
}

TEST(Client, TakesRepliesBeyondFourMebibytes) {
  FakeServer server;
  server.answer = [](grpc::ServerContext&, const v1::SampleRequest&, v1::SampleResponse& reply) {
    reply.set_raw_samples(std::string(8 << 20, '\0'));
    return grpc::Status::OK;
  };
  EXPECT_EQ(Client(server.target()).sample(kRow).samples().size(), 2U << 20);
  ClientOptions options;
  options.max_message_bytes = 1 << 20;
  const Client small(server.target(), options);
  EXPECT_EQ(code_of([&] { small.sample(kRow); }), StatusCode::RESOURCE_EXHAUSTED);
}

}  // namespace
}  // namespace samplerd
