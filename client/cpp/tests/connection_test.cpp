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

TEST(JointTarget, IsOfOneKind) {
  EXPECT_EQ(joint_target({"10.0.0.1:1", "ipv4:127.0.0.1:2"}), "ipv4:10.0.0.1:1,127.0.0.1:2");
  EXPECT_EQ(joint_target({"[::1]:1", "[::2]:2"}), "ipv6:[::1]:1,[::2]:2");
  EXPECT_EQ(joint_target({"unix:/a", "unix:///b"}), "unix:/a,/b");
  EXPECT_EQ(joint_target({"a.example:1"}), "a.example:1");
  EXPECT_THROW(joint_target({"10.0.0.1:1", "[::1]:1"}), std::invalid_argument);
  EXPECT_THROW(joint_target({"a:1", "b:1"}), std::invalid_argument);
}

TEST(OpenChannel, KeepsATokenOffTheNetwork) {
  ClientOptions options;
  options.token = "secret";
  EXPECT_NO_THROW(open_channels({"127.0.0.1:1"}, options));
  EXPECT_THROW(open_channels({"10.0.0.1:1"}, options), std::invalid_argument);
  options.allow_plaintext_token = true;
  EXPECT_NO_THROW(open_channels({"10.0.0.1:1"}, options));
  options.allow_plaintext_token = false;
  options.tls.emplace();
  EXPECT_NO_THROW(open_channels({"10.0.0.1:1"}, options));
}

TEST(OpenChannel, RefusesSenselessOptions) {
  ClientOptions few;
  few.connections = 0;
  EXPECT_THROW(open_channels({"127.0.0.1:1"}, few), std::invalid_argument);
  EXPECT_THROW(open_channels({}, {}), std::invalid_argument);
  ClientOptions many;
  many.connections = 3;
  EXPECT_EQ(open_channels({"127.0.0.1:1", "127.0.0.1:2"}, many).size(), 3u);
  EXPECT_THROW(open_channels({""}, {}), std::invalid_argument);
  ClientOptions options;
  options.tls.emplace();
  options.tls->key = "a key without its certificate";
  EXPECT_THROW(open_channels({"127.0.0.1:1"}, options), std::invalid_argument);
  EXPECT_THROW(read_file("/does/not/exist"), std::runtime_error);
}

}  // namespace
}  // namespace samplerd
