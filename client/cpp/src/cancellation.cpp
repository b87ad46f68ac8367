#include <samplerd/cancellation.hpp>

#include <condition_variable>
#include <list>
#include <mutex>
#include <utility>

namespace samplerd {

struct Cancellation::State {
  // Recursive, as gRPC may run callbacks of other calls on the thread that cancels one, and they may cancel
  // too. Held while listeners are told, so that none is told after its end.
  std::recursive_mutex mutex;
  std::condition_variable_any changed;
  bool is_cancelled = false;
  std::list<std::function<void()>> listeners;
};

struct Cancellation::Listener::Entry {
  std::shared_ptr<State> state;
  std::list<std::function<void()>>::iterator place;
};

Cancellation::Cancellation() : state_(std::make_shared<State>()) {}

void Cancellation::cancel() const {
  const std::lock_guard lock(state_->mutex);
  if (std::exchange(state_->is_cancelled, true)) {
    return;
  }
  state_->changed.notify_all();
  for (const auto& then : state_->listeners) {
    then();
  }
}

bool Cancellation::is_cancelled() const {
  const std::lock_guard lock(state_->mutex);
  return state_->is_cancelled;
}

bool Cancellation::wait_for(std::chrono::nanoseconds delay) const {
  std::unique_lock lock(state_->mutex);
  const auto until = std::chrono::steady_clock::now() + delay;
  return state_->changed.wait_until(lock, until, [this] { return state_->is_cancelled; });
}

Cancellation::Listener::Listener(const Cancellation& cancellation, std::function<void()> then)
    : entry_(std::make_unique<Entry>()) {
  entry_->state = cancellation.state_;
  const std::lock_guard lock(entry_->state->mutex);
  auto& listeners = entry_->state->listeners;
  entry_->place = listeners.insert(listeners.end(), std::move(then));
  if (entry_->state->is_cancelled) {
    (*entry_->place)();
  }
}

Cancellation::Listener::~Listener() {
  const std::lock_guard lock(entry_->state->mutex);
  entry_->state->listeners.erase(entry_->place);
}

}  // namespace samplerd
