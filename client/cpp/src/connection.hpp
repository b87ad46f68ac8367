/// The channel, and what every call on it carries.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <memory>
#include <string>

#include <samplerd/options.hpp>

namespace samplerd {

/// Whether a target is a Unix socket or the loopback interface: where plain text is not read on the way.
bool is_local(const std::string& target);

/// A channel; it connects at the first call. Throws std::invalid_argument where the options make no sense, or
/// would send the token over a network in plain text.
std::shared_ptr<grpc::Channel> open_channel(const std::string& target, const ClientOptions& options);

/// Puts the token into a call.
void authorize(const ClientOptions& options, grpc::ClientContext& context);

}  // namespace samplerd
