#include "suite.hpp"

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>

namespace conformance {

Flags parse_flags(int count, char** arguments) {
  Flags flags;
  const std::array<std::pair<std::string_view, std::string*>, 8> known{{
      {"--target", &flags.target},
      {"--vectors", &flags.vectors},
      {"--retry-target", &flags.retry_target},
      {"--servers", &flags.servers},
      {"--unix-target", &flags.unix_target},
      {"--tls-target", &flags.tls_target},
      {"--ca", &flags.ca},
      {"--token", &flags.token},
  }};
  for (int index = 1; index + 1 < count; index += 2) {
    std::string* place = nullptr;
    for (const auto& [name, to] : known) {
      place = name == arguments[index] ? to : place;
    }
    if (place == nullptr) {
      throw std::invalid_argument(std::string("unknown flag ") + arguments[index]);
    }
    *place = arguments[index + 1];
  }
  for (const auto& [name, to] : known) {
    if (to->empty()) {
      throw std::invalid_argument(std::string(name) + " is missing");
    }
  }
  return flags;
}

std::string from_base64(const std::string& text) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  std::uint32_t bits = 0;
  int have = 0;
  for (char letter : text) {
    const auto digit = kDigits.find(letter);
    if (digit == std::string_view::npos) {
      break;  // padding
    }
    bits = (bits << 6) | static_cast<std::uint32_t>(digit);
    have += 6;
    if (have >= 8) {
      have -= 8;
      bytes.push_back(static_cast<char>((bits >> have) & 0xffu));
    }
  }
  return bytes;
}

}  // namespace conformance
