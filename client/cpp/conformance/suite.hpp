/// What the runner knows: its flags, vectors.json, and how something is found wrong.
#pragma once

#include <nlohmann/json.hpp>

#include <stdexcept>
#include <string>

namespace conformance {

using Json = nlohmann::json;

/// Something is not as the suite says.
struct Mismatch : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Complains unless the condition holds.
inline void expect(bool condition, const std::string& text) {
  if (!condition) {
    throw Mismatch(text);
  }
}

/// What the runner is started with: see client/conformance/README.md.
struct Flags {
  std::string target;
  std::string vectors;
  std::string retry_target;
  std::string servers;
  std::string unix_target;
  std::string tls_target;
  std::string ca;
  std::string token;
};

/// Reads the command line. Throws std::invalid_argument for an unknown flag, or one that is missing.
Flags parse_flags(int count, char** arguments);

/// The bytes that base64 text stands for.
std::string from_base64(const std::string& text);

/// The flags and the vectors.
struct Suite {
  Flags flags;
  Json vectors;
};

}  // namespace conformance
