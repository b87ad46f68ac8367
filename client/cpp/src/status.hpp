/// From a gRPC status to an Error: the details and the hints are decoded here and nowhere else.
///
/// Rule 1: nothing here throws on a malformed detail; a status always becomes an Error.
#pragma once

#include <google/rpc/status.pb.h>
#include <grpcpp/client_context.h>
#include <grpcpp/support/status.h>

#include <map>

#include <samplerd/error.hpp>

namespace samplerd {

using Trailers = std::multimap<grpc::string_ref, grpc::string_ref>;

/// The error of a call that failed. The trailer grpc-retry-pushback-ms goes before google.rpc.RetryInfo.
Error error_of(const grpc::Status& status, const Trailers& trailers);

/// The error of one request of a stream; the stream itself goes on.
Error error_of(const google::rpc::Status& status);

}  // namespace samplerd
