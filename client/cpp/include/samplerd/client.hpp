/// The client: one object, one server or several, any number of threads.
#pragma once

#include <samplerd/v1/sampler.grpc.pb.h>

#include <memory>
#include <string>
#include <vector>

#include <samplerd/arrays.hpp>
#include <samplerd/chunks.hpp>
#include <samplerd/error.hpp>
#include <samplerd/options.hpp>
#include <samplerd/result.hpp>
#include <samplerd/stream.hpp>

namespace samplerd {

/// Connections to a samplerd, or to several. All members may be called from many threads at once; each call blocks its own
/// thread, is tried again as ClientOptions::retry says, and throws Error when it fails.
class Client {
 public:
  /// @param target `host:port`, `unix:/path`, or any other name that gRPC resolves; it is reached at the
  /// first call
  /// @throws std::invalid_argument options that make no sense, or a token that would cross a network in plain
  /// text
  explicit Client(const std::string& target, ClientOptions options = {});
  /// @param targets several of these, all of one kind (IPv4, IPv6, Unix sockets), which get the calls in turn
  /// as long as they are healthy: one that starts, drains or is gone gets none
  /// @throws std::invalid_argument as above, or targets of several kinds, or none
  explicit Client(const std::vector<std::string>& targets, ClientOptions options = {});
  ~Client();
  Client(Client&&) noexcept;
  Client& operator=(Client&&) noexcept;

  /// Draws from every row of a request; request() makes one of an array. A row that cannot be drawn from
  /// fails alone: see SampleResult::is_complete(). If all rows fail, INVALID_ARGUMENT names them.
  SampleResult sample(const v1::SampleRequest& request, const CallOptions& call = {}) const;
  /// Draws once from each row at temperature 1: see request().
  SampleResult sample(Rows rows, const CallOptions& call = {}) const { return sample(request(rows), call); }

  /// Draws any number of samples from an uploaded distribution in bounded memory; waits for the first part. The server
  /// draws as the parts are taken.
  ///
  /// The timeout of the call bounds the wait for each part, for the first one with all attempts: until it comes the call
  /// is tried again as others are, and not after it. The cancellation ends it wherever it is. What was broken off can be
  /// continued with the same seed and, for one row, a draw_offset that is larger by the samples taken. Throws NOT_FOUND
  /// if there is no such distribution.
  Chunks draw_chunks(const v1::SampleRequest& request, const CallOptions& call = {}) const;

  /// Accepts or corrects drafted tokens (speculative decoding).
  v1::VerifyDraftResponse verify_draft(const v1::VerifyDraftRequest& request,
                                       const CallOptions& call = {}) const;

  /// Uploads rows once, so that SampleRequest::set_distribution() can name them. Not tried again when the
  /// connection broke, as it may have been made: ALREADY_EXISTS would tell too little.
  v1::Distribution create_distribution(const v1::CreateDistributionRequest& request,
                                       const CallOptions& call = {}) const;
  /// Describes an uploaded distribution. Throws NOT_FOUND.
  v1::Distribution get_distribution(const std::string& name, const CallOptions& call = {}) const;
  /// Frees an uploaded distribution. Throws NOT_FOUND.
  void delete_distribution(const std::string& name, const CallOptions& call = {}) const;
  /// All uploaded distributions, ordered by name.
  std::vector<v1::Distribution> list_distributions(const CallOptions& call = {}) const;

  /// What the server is, what it can do and where its limits are.
  v1::GetServerInfoResponse server_info(const CallOptions& call = {}) const;

  /// Opens a stream: one call for many requests. It may outlive the client.
  Stream stream(const StreamOptions& options = {}) const;

  /// The generated stub on the connection whose turn it is, for what is not here (VerifyDraftStream). prepare() each call's
  /// context.
  v1::SamplerService::Stub& stub() const;
  /// Gives a call of stub() the client's token and timeout.
  void prepare(grpc::ClientContext& context) const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace samplerd
