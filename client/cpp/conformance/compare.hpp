/// Whether a reply is the one that is due.
#pragma once

#include <google/protobuf/message.h>

#include <string>

#include "suite.hpp"

namespace conformance {

/// The message that ProtoJSON stands for.
void from_json(const Json& fields, google::protobuf::Message& message);

/// Complains unless the reply is as due: floats within the tolerance, all else exactly; timing and texts are
/// free.
void expect_same(const std::string& name, const google::protobuf::Message& reply,
                 const google::protobuf::Message& due, double tolerance);

}  // namespace conformance
