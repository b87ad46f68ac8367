#include "connection.hpp"

#include <gtest/gtest.h>

#include <stdexcept>

namespace samplerd {
namespace {

TEST(IsLocal, KnowsLoopbackAndUnixSockets) {
  for (const char* target : {"unix:/run/samplerd", "unix-abstract:x", "localhost:1", "127.0.0.1:1",
                             "127.9.9.9:1", "[::1]:1", "ipv4:127.0.0.1:1", "ipv6:[::1]:1"}) {
    EXPECT_TRUE(is_local(target)) << target;
  }
  for (const char* target : {"sampler.example:1", "10.0.0.1:1", "[2001:db8::1]:1", "localhost.example:1",
                             "127.0.0.1.example:1", "ipv4:127.0.0.1:1,10.0.0.1:1"}) {
    EXPECT_FALSE(is_local(target)) << target;
  }
}

TEST(OpenChannel, KeepsATokenOffTheNetwork) {
  ClientOptions options;
  options.token = "secret";
  EXPECT_NO_THROW(open_channel("127.0.0.1:1", options));
  EXPECT_THROW(open_channel("10.0.0.1:1", options), std::invalid_argument);
  options.allow_plaintext_token = true;
  EXPECT_NO_THROW(open_channel("10.0.0.1:1", options));
  options.allow_plaintext_token = false;
  options.tls.emplace();
  EXPECT_NO_THROW(open_channel("10.0.0.1:1", options));
}

TEST(OpenChannel, RefusesSenselessOptions) {
  EXPECT_THROW(open_channel("", {}), std::invalid_argument);
  ClientOptions options;
  options.tls.emplace();
  options.tls->key = "a key without its certificate";
  EXPECT_THROW(open_channel("127.0.0.1:1", options), std::invalid_argument);
  EXPECT_THROW(read_file("/does/not/exist"), std::runtime_error);
}

}  // namespace
}  // namespace samplerd
