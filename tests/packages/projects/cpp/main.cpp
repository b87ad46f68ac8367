#include <samplerd/client.hpp>

#include <iostream>
#include <vector>

int main(int, char** argv) {
  const samplerd::Client client(argv[1]);
  const std::vector<float> logits{1.0F, 2.0F, 0.5F, 1.5F};
  auto request = samplerd::request(logits);
  request.mutable_params()->set_temperature(0.7);
  request.set_num_samples(5);
  request.set_seed(1234);
  const samplerd::SampleResult result = client.sample(request);
  for (const auto id : result.row(0)) {
    std::cout << id << ' ';
  }
}
