/// A wish to stop, told by one thread and heard by others: what std::stop_source is in C++20.
#pragma once

#include <chrono>
#include <functional>
#include <memory>

namespace samplerd {

/// Give a copy to as many calls as you like, and cancel() them all at once, from any thread. All copies are
/// one.
class Cancellation {
 public:
  Cancellation();

  /// Ends the calls that have a copy, as CANCELLED, and all that will get one.
  void cancel() const;
  /// Whether cancel() was called.
  bool is_cancelled() const;
  /// Waits for `delay`, or until it is cancelled; returns is_cancelled().
  bool wait_for(std::chrono::nanoseconds delay) const;

  /// What is done when it is cancelled, for as long as this lives; done at once when it already is.
  class Listener {
   public:
    Listener(const Cancellation& cancellation, std::function<void()> then);
    ~Listener();
    Listener(const Listener&) = delete;
    Listener& operator=(const Listener&) = delete;

   private:
    struct Entry;
    std::unique_ptr<Entry> entry_;
  };

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace samplerd
