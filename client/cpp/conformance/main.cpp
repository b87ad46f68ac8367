/// The conformance suite through the C++ client: see client/conformance/README.md for what is tried and
/// printed.
#include <algorithm>
#include <array>
#include <exception>
#include <fstream>
#include <iostream>
#include <utility>

#include "features.hpp"

namespace {

using Feature = std::string (*)(const conformance::Suite&);

constexpr std::array<std::pair<const char*, Feature>, 20> kFeatures{{
    {"calls", conformance::try_calls},
    {"parameters", conformance::try_parameters},
    {"arrays", conformance::try_arrays},
    {"halves", conformance::try_halves},
    {"guidance", conformance::try_guidance},
    {"drafts", conformance::try_drafts},
    {"frequencies", conformance::try_frequencies},
    {"stream", conformance::try_stream},
    {"chunks", conformance::try_chunks},
    {"limits", conformance::try_limits},
    {"deadline", conformance::try_deadline},
    {"cancel", conformance::try_cancel},
    {"retry", conformance::try_retry},
    {"budget", conformance::try_budget},
    {"metadata", conformance::try_metadata},
    {"servers", conformance::try_servers},
    {"connections", conformance::try_connections},
    {"unix", conformance::try_unix},
    {"tls", conformance::try_tls},
    {"token", conformance::try_token},
}};

/// Tries one feature and says what became of it; returns whether it passed.
bool has_passed(const char* name, Feature feature, const conformance::Suite& suite) {
  try {
    const std::string detail = feature(suite);
    std::cout << name << "\tpass\t" << detail << std::endl;
    return true;
  } catch (const std::exception& error) {
    std::cerr << name << ": " << error.what() << std::endl;
    std::string detail = error.what();
    std::replace(detail.begin(), detail.end(), '\n', ' ');
    std::cout << name << "\tfail\t" << detail << std::endl;
    return false;
  }
}

}  // namespace

int main(int count, char** arguments) {
  conformance::Suite suite;
  try {
    suite.flags = conformance::parse_flags(count, arguments);
    std::ifstream file(suite.flags.vectors);
    suite.vectors = conformance::Json::parse(file);
  } catch (const std::exception& error) {
    std::cerr << error.what() << std::endl;
    return 2;
  }
  bool all = true;
  for (const auto& [name, feature] : kFeatures) {
    all = has_passed(name, feature, suite) && all;
  }
  return all ? 0 : 1;
}
