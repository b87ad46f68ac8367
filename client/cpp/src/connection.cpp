#include "connection.hpp"

#include <arpa/inet.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string_view>

namespace samplerd {
namespace {

bool has_prefix(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

std::string host_of(std::string_view target) {
  for (const std::string_view scheme : {"ipv4:", "ipv6:"}) {
    if (has_prefix(target, scheme)) {
      target.remove_prefix(scheme.size());
    }
  }
  target = target.substr(0, target.rfind(':'));
  if (target.size() >= 2 && target.front() == '[' && target.back() == ']') {
    target = target.substr(1, target.size() - 2);
  }
  return std::string(target);
}

void check(const std::string& target, const ClientOptions& options) {
  if (target.empty()) {
    throw std::invalid_argument("the target is empty; expected host:port or unix:/path");
  }
  if (options.tls && options.tls->certificate.empty() != options.tls->key.empty()) {
    throw std::invalid_argument("a client certificate needs its key, and a key its certificate");
  }
  if (options.retry.max_attempts < 1) {
    throw std::invalid_argument("max_attempts is at least 1");
  }
  const bool is_exposed = !options.token.empty() && !options.tls && !is_local(target);
  if (is_exposed && !options.allow_plaintext_token) {
    throw std::invalid_argument("the token would cross the network to " + target +
                                " in plain text; give tls, or allow_plaintext_token");
  }
}

std::shared_ptr<grpc::ChannelCredentials> credentials_of(const std::optional<TlsOptions>& tls) {
  if (!tls) {
    return grpc::InsecureChannelCredentials();
  }
  return grpc::SslCredentials({tls->ca, tls->key, tls->certificate});
}

}  // namespace

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string content{std::istreambuf_iterator<char>(file), {}};
  if (!file) {
    throw std::runtime_error("cannot read " + path);
  }
  return content;
}

bool is_local(const std::string& target) {
  if (has_prefix(target, "unix:") || has_prefix(target, "unix-abstract:")) {
    return true;
  }
  const std::string host = host_of(target);
  in_addr v4{};
  in6_addr v6{};
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) {
    return ntohl(v4.s_addr) >> 24 == 127;
  }
  if (inet_pton(AF_INET6, host.c_str(), &v6) == 1) {
    return IN6_IS_ADDR_LOOPBACK(&v6);
  }
  return host == "localhost";
}

std::shared_ptr<grpc::Channel> open_channel(const std::string& target, const ClientOptions& options) {
  check(target, options);
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetMaxReceiveMessageSize(options.max_message_bytes);
  arguments.SetMaxSendMessageSize(-1);
  arguments.SetUserAgentPrefix("samplerd-cpp/" SAMPLERD_VERSION);
  // A restarted server is found again within a second, not within gRPC's two minutes.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 1000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  // Five minutes is the shortest ping interval that a server with default settings tolerates.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 300'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20'000);
  if (options.tls && !options.tls->server_name.empty()) {
    arguments.SetSslTargetNameOverride(options.tls->server_name);
  }
  return grpc::CreateCustomChannel(target, credentials_of(options.tls), arguments);
}

void authorize(const ClientOptions& options, grpc::ClientContext& context) {
  if (!options.token.empty()) {
    context.AddMetadata("authorization", "Bearer " + options.token);
  }
}

}  // namespace samplerd
