#include "connection.hpp"

#include <arpa/inet.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <algorithm>
#include <fstream>
#include <iomanip>
#include <iterator>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string_view>
#include <utility>

namespace samplerd {
namespace {

/// gRPC's service config: calls go to the servers in turn, and a server that starts or drains gets none.
constexpr const char* kBalanced = R"({"loadBalancingConfig": [{"round_robin": {}}],
  "healthCheckConfig": {"serviceName": "samplerd.v1.SamplerService"}})";

constexpr int kPingIntervalMs = 5'000;
constexpr int kPingTimeoutMs = 10'000;

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

bool is_unix(const std::string& target) {
  return has_prefix(target, "unix:") || has_prefix(target, "unix-abstract:");
}

bool are_local(const std::vector<std::string>& targets) {
  return std::all_of(targets.begin(), targets.end(), is_local);
}

/// The kind of an address, empty if it is a name, and the address without its kind.
std::pair<std::string, std::string> kind_and_address(const std::string& target) {
  if (has_prefix(target, "unix:")) {
    return {"unix", target.substr(has_prefix(target, "unix://") ? 7 : 5)};
  }
  for (const char* kind : {"ipv4", "ipv6"}) {
    if (has_prefix(target, std::string(kind) + ':')) {
      return {kind, target.substr(5)};
    }
  }
  const std::string host = host_of(target);
  in6_addr address{};
  if (inet_pton(AF_INET, host.c_str(), &address) == 1) {
    return {"ipv4", target};
  }
  return {inet_pton(AF_INET6, host.c_str(), &address) == 1 ? "ipv6" : "", target};
}

void check(const std::vector<std::string>& targets, const ClientOptions& options) {
  if (targets.empty() || std::any_of(targets.begin(), targets.end(), [](auto& one) { return one.empty(); })) {
    throw std::invalid_argument("the target is empty; expected host:port or unix:/path");
  }
  if (options.connections < 1) {
    throw std::invalid_argument("connections is at least 1");
  }
  if (options.retry.budget < 0.0 || options.retry.budget_refill < 0.0) {
    throw std::invalid_argument("budget and budget_refill are at least 0");
  }
  if (options.tls && options.tls->certificate.empty() != options.tls->key.empty()) {
    throw std::invalid_argument("a client certificate needs its key, and a key its certificate");
  }
  if (options.retry.max_attempts < 1) {
    throw std::invalid_argument("max_attempts is at least 1");
  }
  const bool is_exposed = !options.token.empty() && !options.tls && !are_local(targets);
  if (is_exposed && !options.allow_plaintext_token) {
    throw std::invalid_argument("the token would cross the network to " + joint_target(targets) +
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
  if (is_unix(target)) {
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

std::string joint_target(const std::vector<std::string>& targets) {
  if (targets.size() == 1) {
    return targets.front();
  }
  std::string kind;
  std::string joint;
  for (const std::string& target : targets) {
    const auto [own, address] = kind_and_address(target);
    if (own.empty() || (!kind.empty() && own != kind)) {
      throw std::invalid_argument(
          "several targets must all be IPv4 addresses, all IPv6 addresses, or all Unix sockets; a name with "
          "several addresses is one target, with balance");
    }
    kind = own;
    joint += (joint.empty() ? "" : ",") + address;
  }
  return kind + ':' + joint;
}

std::vector<std::shared_ptr<grpc::Channel>> open_channels(const std::vector<std::string>& targets,
                                                          const ClientOptions& options) {
  check(targets, options);
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetMaxReceiveMessageSize(options.max_message_bytes);
  arguments.SetMaxSendMessageSize(-1);
  arguments.SetUserAgentPrefix("samplerd-cpp/" SAMPLERD_VERSION);
  // A restarted server is found again within a second, not within gRPC's two minutes.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 1000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  // A frozen server keeps its connections and says nothing: while calls are in flight, it is asked whether it is there,
  // and a samplerd takes two pings a second. Which of the last two holds depends on the version of gRPC.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kPingIntervalMs);
  arguments.SetInt("grpc.http2.min_time_between_pings_ms", kPingIntervalMs);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kPingTimeoutMs);
  arguments.SetInt("grpc.http2.ping_timeout_ms", kPingTimeoutMs);
  if (are_local(targets)) {
    // A proxy that the environment names for the world outside cannot reach this machine's own addresses.
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  }
  if (options.tls && !options.tls->server_name.empty()) {
    arguments.SetSslTargetNameOverride(options.tls->server_name);
  }
  if (options.balance || targets.size() > 1) {
    arguments.SetServiceConfigJSON(kBalanced);
  }
  if (options.connections > 1) {
    // Without it all channels of a process to one address share a connection.
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  }
  std::vector<std::shared_ptr<grpc::Channel>> channels;
  for (int made = 0; made < options.connections; ++made) {
    channels.push_back(
        grpc::CreateCustomChannel(joint_target(targets), credentials_of(options.tls), arguments));
  }
  return channels;
}

ClientOptions named_on_sockets(ClientOptions options, const std::vector<std::string>& targets) {
  if (std::any_of(targets.begin(), targets.end(), is_unix)) {
    std::random_device random;
    std::ostringstream name;
    name << std::hex << std::setfill('0') << std::setw(8) << random() << std::setw(8) << random();
    options.metadata.emplace_back("x-samplerd-client", name.str());
  }
  return options;
}

void authorize(const ClientOptions& options, grpc::ClientContext& context) {
  for (const auto& [key, value] : options.metadata) {
    context.AddMetadata(key, value);
  }
  if (!options.token.empty()) {
    context.AddMetadata("authorization", "Bearer " + options.token);
  }
}

}  // namespace samplerd
