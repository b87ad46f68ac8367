/// The channel, and what every call on it carries.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <memory>
#include <string>
#include <vector>

#include <samplerd/options.hpp>

namespace samplerd {

/// Whether a target is a Unix socket or the loopback interface: where plain text is not read on the way.
bool is_local(const std::string& target);

/// The one name by which gRPC knows these addresses. Throws std::invalid_argument unless they are of one kind:
/// gRPC looks up one name at a time.
std::string joint_target(const std::vector<std::string>& targets);

/// Channels, as many as the options have connections; each connects at its first call. Throws std::invalid_argument where the options make no sense, or
/// would send the token over a network in plain text.
std::vector<std::shared_ptr<grpc::Channel>> open_channels(const std::vector<std::string>& targets,
                                                          const ClientOptions& options);

/// Puts the token and the metadata into a call.
void authorize(const ClientOptions& options, grpc::ClientContext& context);

/// Gives the options a name for this client, sent with every call, if a target is a Unix socket. All callers of a
/// socket have one address: by their names the server gives each its own fair share.
ClientOptions named_on_sockets(ClientOptions options, const std::vector<std::string>& targets);

}  // namespace samplerd
