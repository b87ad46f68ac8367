/// A samplerd that answers as a test wants, in the test's own process.
#pragma once

#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <samplerd/v1/sampler.grpc.pb.h>

#include <functional>
#include <memory>
#include <string>

namespace samplerd {

class FakeServer final : public v1::SamplerService::Service {
 public:
  using Answer =
      std::function<grpc::Status(grpc::ServerContext&, const v1::SampleRequest&, v1::SampleResponse&)>;
  using Converse =
      std::function<grpc::Status(grpc::ServerReaderWriter<v1::SampleResponse, v1::SampleRequest>&)>;

  using Draw = std::function<grpc::Status(grpc::ServerContext&, const v1::SampleRequest&,
                                          grpc::ServerWriter<v1::SampleResponse>&)>;

  FakeServer() {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    target_ = "127.0.0.1:" + std::to_string(port);
  }
  ~FakeServer() override { server_->Shutdown(std::chrono::system_clock::now()); }

  const std::string& target() const { return target_; }

  /// What Sample does. To be set before it is called.
  Answer answer;
  /// What SampleStream does.
  Converse converse;
  /// What SampleDistribution does.
  Draw draw;

  grpc::Status Sample(grpc::ServerContext* context, const v1::SampleRequest* request,
                      v1::SampleResponse* reply) override {
    return answer(*context, *request, *reply);
  }

  grpc::Status SampleStream(
      grpc::ServerContext*,
      grpc::ServerReaderWriter<v1::SampleResponse, v1::SampleRequest>* stream) override {
    return converse(*stream);
  }

  grpc::Status SampleDistribution(grpc::ServerContext* context, const v1::SampleRequest* request,
                                  grpc::ServerWriter<v1::SampleResponse>* replies) override {
    return draw(*context, *request, *replies);
  }

 private:
  std::unique_ptr<grpc::Server> server_;
  std::string target_;
};

}  // namespace samplerd
