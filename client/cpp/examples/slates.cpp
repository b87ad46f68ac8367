/// Ranked lists ("slates") of a small catalogue, drawn without replacement by score: `slates --target
/// HOST:PORT`.
///
/// Shows a request from an array, log-probabilities, a stream with many requests in flight, and errors.
#include <samplerd/client.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <exception>
#include <future>
#include <vector>

namespace {

namespace v1 = samplerd::v1;

struct Item {
  const char* name;
  float score;  // a logit: what a ranking model thinks of it
};

constexpr std::array<Item, 8> kCatalogue{{{"Metropolis", 2.1F},
                                          {"Stalker", 1.7F},
                                          {"Playtime", 1.4F},
                                          {"Ran", 1.2F},
                                          {"Persona", 0.6F},
                                          {"Sans Soleil", 0.3F},
                                          {"Close-Up", -0.2F},
                                          {"La Jetee", -0.9F}}};
constexpr std::uint32_t kSlate = 4;
constexpr std::uint64_t kVisitors = 1000;

v1::SampleRequest slate_request(std::uint64_t visitor) {
  std::array<float, kCatalogue.size()> scores{};
  std::transform(kCatalogue.begin(), kCatalogue.end(), scores.begin(),
                 [](const Item& item) { return item.score; });
  auto request = samplerd::request(scores);
  request.mutable_params()->set_temperature(0.8);
  request.set_num_samples(kSlate);
  request.set_replacement(v1::REPLACEMENT_WITHOUT);
  request.set_seed(visitor);  // the same visitor always sees the same slate
  request.mutable_outputs()->add_logprobs(v1::LOGPROB_KIND_PROCESSED);
  return request;
}

void show_slates(const samplerd::Client& client) {
  std::puts("Slates of the first visitors, and how likely each was:");
  for (std::uint64_t visitor = 1; visitor <= 5; ++visitor) {
    const auto result = client.sample(slate_request(visitor));
    double log_probability = 0.0;  // each log-probability is conditional on the draws before it
    for (const float logprob : result.response().logprobs(0).samples()) {
      log_probability += logprob;
    }
    std::printf("  %d  %6.3f %%  ", static_cast<int>(visitor), 100.0 * std::exp(log_probability));
    for (const std::int32_t id : result.row(0)) {
      std::printf(" %-12s", kCatalogue.at(static_cast<std::size_t>(id)).name);
    }
    std::puts("");
  }
}

void show_exposure(const samplerd::Client& client) {
  std::array<int, kCatalogue.size()> first{};
  std::array<int, kCatalogue.size()> anywhere{};
  samplerd::Stream stream = client.stream();
  std::vector<std::future<samplerd::SampleResult>> slates;
  for (std::uint64_t visitor = 1; visitor <= kVisitors; ++visitor) {
    slates.push_back(stream.submit(slate_request(visitor)));  // waits while 64 are in flight
  }
  for (auto& slate : slates) {
    const auto result = slate.get();
    ++first.at(static_cast<std::size_t>(result.row(0)[0]));
    for (const std::int32_t id : result.row(0)) {
      ++anywhere.at(static_cast<std::size_t>(id));
    }
  }
  stream.close();
  std::printf("\nOf %d visitors so many saw it:\n  %-12s %8s %8s\n", static_cast<int>(kVisitors), "", "first",
              "at all");
  for (std::size_t id = 0; id < kCatalogue.size(); ++id) {
    std::printf("  %-12s %8d %8d\n", kCatalogue[id].name, first[id], anywhere[id]);
  }
}

void show_error(const samplerd::Client& client) {
  auto request = slate_request(1);
  request.set_num_samples(kCatalogue.size() + 1);
  try {
    client.sample(request);
  } catch (const samplerd::Error& error) {
    std::printf("\nNine of eight cannot be had: %s\n", error.violations().at(0).description.c_str());
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 3 || std::strcmp(arguments[1], "--target") != 0) {
    std::fprintf(stderr, "usage: %s --target HOST:PORT\n", arguments[0]);
    return 2;
  }
  try {
    const samplerd::Client client(arguments[2]);
    show_slates(client);
    show_exposure(client);
    show_error(client);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
