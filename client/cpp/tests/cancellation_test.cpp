#include <samplerd/cancellation.hpp>

#include <gtest/gtest.h>

#include <thread>

namespace samplerd {
namespace {

TEST(Cancellation, TellsAllCopiesOnce) {
  const Cancellation one;
  const Cancellation same = one;
  int told = 0;
  const Cancellation::Listener listener(same, [&told] { ++told; });
  EXPECT_FALSE(same.is_cancelled());
  one.cancel();
  one.cancel();
  EXPECT_TRUE(same.is_cancelled());
  EXPECT_EQ(told, 1);
}

TEST(Cancellation, TellsWhoComesLateAtOnceAndWhoLeftNever) {
  const Cancellation cancellation;
  int told = 0;
  {
    const Cancellation::Listener gone(cancellation, [&told] { told += 100; });
  }
  cancellation.cancel();
  const Cancellation::Listener late(cancellation, [&told] { ++told; });
  EXPECT_EQ(told, 1);
}

TEST(Cancellation, EndsAWait) {
  const Cancellation cancellation;
  EXPECT_FALSE(cancellation.wait_for(std::chrono::nanoseconds(1)));
  std::thread other([&] { cancellation.cancel(); });
  EXPECT_TRUE(cancellation.wait_for(std::chrono::minutes(1)));
  other.join();
}

}  // namespace
}  // namespace samplerd
