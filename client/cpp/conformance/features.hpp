/// What the runner tries: one function for each feature of client/conformance/README.md. Each returns the
/// DETAIL to print, and throws when something is not as it should be.
#pragma once

#include <string>

#include "suite.hpp"

namespace conformance {

std::string try_calls(const Suite& suite);
std::string try_stream(const Suite& suite);
std::string try_parameters(const Suite& suite);
std::string try_guidance(const Suite& suite);
std::string try_drafts(const Suite& suite);
std::string try_arrays(const Suite& suite);
std::string try_halves(const Suite& suite);
std::string try_frequencies(const Suite& suite);
std::string try_chunks(const Suite& suite);
std::string try_limits(const Suite& suite);
std::string try_deadline(const Suite& suite);
std::string try_cancel(const Suite& suite);
std::string try_retry(const Suite& suite);
std::string try_budget(const Suite& suite);
std::string try_metadata(const Suite& suite);
std::string try_servers(const Suite& suite);
std::string try_connections(const Suite& suite);
std::string try_unix(const Suite& suite);
std::string try_tls(const Suite& suite);
std::string try_token(const Suite& suite);

}  // namespace conformance
