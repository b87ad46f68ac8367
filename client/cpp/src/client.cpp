#include <samplerd/client.hpp>

#include <algorithm>
#include <atomic>
#include <type_traits>
#include <utility>

#include "chunk_reader.hpp"
#include "connection.hpp"
#include "retry.hpp"
#include "status.hpp"
#include "stream_reactor.hpp"

namespace samplerd {
namespace {

using Service = v1::SamplerService;

template <class Request, class Response>
using Method = grpc::Status (Service::Stub::*)(grpc::ClientContext*, const Request&, Response*);

void set_deadline(grpc::ClientContext& context, SteadyTime deadline) {
  // gRPC takes times of the wall clock only; it turns them back at once.
  context.set_deadline(std::chrono::system_clock::now() + (deadline - std::chrono::steady_clock::now()));
}

/// The name of the distribution that a request is about; empty: it is about none.
template <class Request>
std::string distribution_of(const Request& request) {
  if constexpr (std::is_same_v<Request, v1::SampleRequest>) {
    return request.distribution();
  } else if constexpr (std::is_same_v<Request, v1::CreateDistributionRequest> ||
                       std::is_same_v<Request, v1::GetDistributionRequest> ||
                       std::is_same_v<Request, v1::DeleteDistributionRequest>) {
    return request.name();
  } else {
    return {};
  }
}

/// Whether a name can be metadata; the server refuses any other.
bool is_printable(const std::string& name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c < '\x7f'; });
}

}  // namespace

class Client::Impl {
 public:
  Impl(const std::vector<std::string>& targets, ClientOptions options)
      : options_(named_on_sockets(std::move(options), targets)), budget_(options_.retry) {
    for (const auto& channel : open_channels(targets, options_)) {
      stubs_.push_back(Service::NewStub(channel));
    }
  }

  template <class Request, class Response>
  Response call(Method<Request, Response> method, const Request& request, const CallOptions& call,
                bool is_repeatable = true) const {
    const SteadyTime deadline = end_of(call.timeout.value_or(options_.timeout));
    Response response;
    with_retries(options_.retry, budget_, deadline, real_world(call.cancellation),
                 [&] { try_once(method, request, response, deadline, call.cancellation, is_repeatable); });
    return response;
  }

  Chunks draw_chunks(const v1::SampleRequest& request, const CallOptions& call) const {
    const auto wait = call.timeout.value_or(options_.timeout);
    const SteadyTime deadline = end_of(wait);
    const auto fill = [&](grpc::ClientContext& context) { prepare(context, request); };
    std::unique_ptr<ChunkReader> reader;
    std::optional<v1::SampleResponse> first;
    with_retries(options_.retry, budget_, deadline, real_world(call.cancellation), [&] {
      reader = std::make_unique<ChunkReader>(stub(), request, fill, call.cancellation);
      first = reader->read(deadline);
    });
    return Chunks(std::move(reader), std::move(first), wait);
  }

  const ClientOptions& options() const { return options_; }
  /// That of the connection whose turn it is; a stream stays on the one that it began on.
  Service::Stub& stub() const { return *stubs_[turn_++ % stubs_.size()]; }

 private:
  template <class Request>
  void prepare(grpc::ClientContext& context, const Request& request) const {
    authorize(options_, context);
    if (const std::string name = distribution_of(request); is_printable(name)) {
      context.AddMetadata("x-samplerd-distribution", name);
    }
  }

  template <class Request, class Response>
  void try_once(Method<Request, Response> method, const Request& request, Response& response,
                SteadyTime deadline, const std::optional<Cancellation>& cancellation,
                bool is_repeatable) const {
    grpc::ClientContext context;
    prepare(context, request);
    set_deadline(context, deadline);
    std::optional<Cancellation::Listener> listener;
    if (cancellation) {
      listener.emplace(*cancellation, [&context] { context.TryCancel(); });
    }
    const grpc::Status status = (stub().*method)(&context, request, &response);
    if (status.ok()) {
      return;
    }
    const Error error = error_of(status, context.GetServerTrailingMetadata());
    const bool is_asked_for = cancellation && cancellation->is_cancelled();
    const bool is_foreign_cancel = error.code() == grpc::StatusCode::CANCELLED && !is_asked_for;
    if (is_foreign_cancel || (!is_repeatable && error.code() == grpc::StatusCode::UNAVAILABLE)) {
      // An upload may have been done.
      ErrorDetails details{error.violations(), error.retry_after(), !is_repeatable || !error.may_retry(),
                           is_foreign_cancel};
      throw Error(error.code(), error.what(), std::move(details));
    }
    throw error;
  }

  ClientOptions options_;
  mutable RetryBudget budget_;
  std::vector<std::unique_ptr<Service::Stub>> stubs_;
  mutable std::atomic<std::size_t> turn_{0};
};

Client::Client(const std::string& target, ClientOptions options)
    : Client(std::vector<std::string>{target}, std::move(options)) {}
Client::Client(const std::vector<std::string>& targets, ClientOptions options)
    : impl_(std::make_unique<Impl>(targets, std::move(options))) {}
Client::~Client() = default;
Client::Client(Client&&) noexcept = default;
Client& Client::operator=(Client&&) noexcept = default;

SampleResult Client::sample(const v1::SampleRequest& request, const CallOptions& call) const {
  return {impl_->call(&Service::Stub::Sample, request, call), request.num_samples()};
}

Chunks Client::draw_chunks(const v1::SampleRequest& request, const CallOptions& call) const {
  return impl_->draw_chunks(request, call);
}

v1::VerifyDraftResponse Client::verify_draft(const v1::VerifyDraftRequest& request,
                                             const CallOptions& call) const {
  return impl_->call(&Service::Stub::VerifyDraft, request, call);
}

v1::Distribution Client::create_distribution(const v1::CreateDistributionRequest& request,
                                             const CallOptions& call) const {
  return impl_->call(&Service::Stub::CreateDistribution, request, call, false).distribution();
}

v1::Distribution Client::get_distribution(const std::string& name, const CallOptions& call) const {
  v1::GetDistributionRequest request;
  request.set_name(name);
  return impl_->call(&Service::Stub::GetDistribution, request, call).distribution();
}

void Client::delete_distribution(const std::string& name, const CallOptions& call) const {
  v1::DeleteDistributionRequest request;
  request.set_name(name);
  impl_->call(&Service::Stub::DeleteDistribution, request, call);
}

std::vector<v1::Distribution> Client::list_distributions(const CallOptions& call) const {
  std::vector<v1::Distribution> all;
  v1::ListDistributionsRequest request;
  do {
    const auto page = impl_->call(&Service::Stub::ListDistributions, request, call);
    all.insert(all.end(), page.distributions().begin(), page.distributions().end());
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  return all;
}

v1::GetServerInfoResponse Client::server_info(const CallOptions& call) const {
  return impl_->call(&Service::Stub::GetServerInfo, v1::GetServerInfoRequest(), call);
}

Stream Client::stream(const StreamOptions& options) const {
  auto reactor = std::make_shared<StreamReactor>(options.max_in_flight);
  authorize(impl_->options(), reactor->context());
  if (options.timeout) {
    set_deadline(reactor->context(), end_of(*options.timeout));
  }
  reactor->start(impl_->stub());
  return Stream(std::move(reactor));
}

v1::SamplerService::Stub& Client::stub() const {
  return impl_->stub();
}

void Client::prepare(grpc::ClientContext& context) const {
  authorize(impl_->options(), context);
  set_deadline(context, end_of(impl_->options().timeout));
}

}  // namespace samplerd
