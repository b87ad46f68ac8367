/// The snippets of README.md, each between its marks, so that they compile: `snippets --target HOST:PORT`
/// runs them.
#include <cmath>
#include <cstdio>
#include <string>
#include <utility>

// [first]
#include <samplerd/client.hpp>

#include <iostream>

void first(const std::string& target) {
  const samplerd::Client client(target);
  const std::vector<float> logits{1.0F, 2.0F, 0.5F, 1.5F};

  auto request = samplerd::request(logits);
  request.mutable_params()->set_temperature(0.7);
  request.set_num_samples(5);
  request.set_seed(1234);
  const samplerd::SampleResult result = client.sample(request);

  for (std::int32_t id : result.row(0)) {
    std::cout << id << ' ';
  }
  std::cout << "with seed " << result.seed() << '\n';
}
// [end]

// [arrays]
void arrays(const samplerd::Client& client, const float* logits, std::size_t rows, std::size_t vocab_size) {
  // float[rows x vocab_size], row-major: copied once.
  client.sample(samplerd::Rows(logits, rows, vocab_size));

  // Half the bytes, rounded.
  auto half = samplerd::request({logits, rows, vocab_size}, samplerd::v1::DTYPE_BF16);
  client.sample(half);

  // Little-endian bytes that you have already: moved.
  samplerd::v1::SampleRequest encoded;
  *encoded.mutable_tensor() = samplerd::tensor(std::string(16, '\0'), 2, 4, samplerd::v1::DTYPE_F16);
  client.sample(encoded);

  // Any other source: fill the message.
  samplerd::v1::SampleRequest sparse;
  auto& row = *sparse.mutable_candidates()->add_row();
  sparse.mutable_candidates()->set_vocab_size(100'000);
  for (int id : {17, 42, 99'999}) {
    row.add_ids(id);
    row.add_logits(1.0F);
  }
  client.sample(sparse);
}
// [end]

// [guided]
void guided(const samplerd::Client& client, const std::vector<float>& prompted, const std::vector<float>& bare) {
  auto request = samplerd::request(prompted);
  *request.mutable_guidance()->mutable_tensor() = samplerd::tensor(bare);  // the same model without the prompt
  auto& params = *request.mutable_params();
  params.set_guidance_scale(1.5);
  for (int id : {0, 3, 3}) {
    params.add_history(id);
  }
  params.set_prompt_length(1);
  params.set_frequency_penalty(0.5);
  params.set_frequency_scope(samplerd::v1::PENALTY_SCOPE_OUTPUT);  // count the tokens after the prompt only
  auto& sequence = *params.add_bad_words();
  sequence.add_ids(3);
  sequence.add_ids(1);
  client.sample(request);
}
// [end]

// [tree]
void tree(const samplerd::Client& client, const float* target, std::size_t vocab_size) {
  samplerd::v1::VerifyDraftRequest request;
  for (auto [id, parent] : {std::pair{11, -1}, {42, -1}, {7, 0}, {42, 1}}) {
    request.add_draft_ids(id);    // 11 or 42 come next; then 7 after 11, or 42 after 42
    request.add_parents(parent);  // the index of the token that this one follows; without any, a chain
  }
  *request.mutable_target() = samplerd::tensor(samplerd::Rows(target, 5, vocab_size));
  const auto verdict = client.verify_draft(request);
  for (auto index : verdict.path()) {
    std::cout << "token " << index << " was accepted\n";
  }
}
// [end]

// [limits]
void limits(const samplerd::Client& client, const samplerd::v1::SampleRequest& request) {
  samplerd::CallOptions call;
  call.timeout = std::chrono::milliseconds(200);  // for all attempts together
  call.cancellation.emplace();
  const samplerd::Cancellation stop = *call.cancellation;  // give it to another thread: stop.cancel()
  client.sample(request, call);
}
// [end]

// [errors]
void errors(const samplerd::Client& client) {
  auto request = samplerd::request(std::vector<float>{1.0F, 2.0F});
  request.mutable_params()->set_temperature(-1.0);
  try {
    client.sample(request);
  } catch (const samplerd::Error& error) {
    if (error.code() == grpc::StatusCode::INVALID_ARGUMENT) {
      std::cout << error.violations().at(0).field << ": " << error.what() << '\n';  // params.temperature: ...
    }
  }

  const std::vector<float> logits{1.0F, 2.0F, std::nanf(""), 1.0F};
  const auto result = client.sample(samplerd::Rows(logits.data(), 2, 2));  // the second row fails alone
  for (const auto& failed : result.response().row_errors()) {
    std::cout << "row " << failed.row() << ": " << failed.message() << '\n';  // and its ids are -1
  }
}
// [end]

// [stream]
void stream(const samplerd::Client& client, const samplerd::v1::SampleRequest& request) {
  samplerd::Stream stream = client.stream();  // StreamOptions: max_in_flight = 64, timeout
  std::vector<std::future<samplerd::SampleResult>> futures;
  for (int number = 0; number < 100; ++number) {
    futures.push_back(stream.submit(request));  // waits while max_in_flight are in flight
  }
  for (auto& future : futures) {
    future.get();  // throws samplerd::Error if this request failed; the others go on
  }

  auto large = request;
  large.set_num_samples(1'000'000);
  std::size_t drawn = 0;
  auto done = stream.submit(large, [&drawn](const samplerd::v1::SampleResponse& chunk) {
    drawn += static_cast<std::size_t>(chunk.samples_size());  // on a thread of gRPC's, as the chunks come
  });
  done.get();
  stream.close();  // waits for the replies; without it the destructor cancels
  std::cout << drawn << " draws\n";
}
// [end]

// [large]
void large(const samplerd::Client& client, const std::string& name) {
  samplerd::v1::SampleRequest request;
  request.set_distribution(name);
  request.set_num_samples(10'000'000);
  request.set_seed(1);
  samplerd::CallOptions call;
  call.timeout = std::chrono::seconds(5);  // for each chunk
  samplerd::Chunks chunks = client.draw_chunks(request, call);
  for (const samplerd::Chunk& chunk : chunks) {
    std::cout << chunk.offset() << ": " << chunk.samples().size() << '\n';  // where its first id is in the whole draw
  }
}
// [end]

// [secure]
samplerd::Client secure(const std::string& token) {
  samplerd::ClientOptions options;
  options.tls.emplace();
  options.tls->ca = samplerd::read_file("ca.pem");
  options.tls->certificate = samplerd::read_file("client.pem");  // only where the server asks who you are
  options.tls->key = samplerd::read_file("client-key.pem");
  options.token = token;
  options.retry.max_attempts = 2;
  return samplerd::Client("sampler.example:50051", options);
}
// [end]

int main(int count, char** arguments) {
  if (count != 3) {
    std::fprintf(stderr, "usage: %s --target HOST:PORT\n", arguments[0]);
    return 2;
  }
  const samplerd::Client client(arguments[2]);
  const std::vector<float> logits{1.0F, 2.0F, 0.5F, 1.5F, 0.0F, 0.0F, 3.0F, 0.0F};
  first(arguments[2]);
  arrays(client, logits.data(), 2, 4);
  guided(client, logits, {1.5F, 1.0F, 0.5F, 1.5F, 0.0F, 0.0F, 1.0F, 0.0F});
  tree(client, std::vector<float>(5 * 50).data(), 50);
  limits(client, samplerd::request(logits));
  errors(client);
  stream(client, samplerd::request(logits));
  samplerd::v1::CreateDistributionRequest upload;
  *upload.mutable_tensor() = samplerd::tensor(logits);
  const auto made = client.create_distribution(upload);
  large(client, made.name());
  client.delete_distribution(made.name());
  try {
    secure("token");
  } catch (const std::runtime_error& error) {
    std::cout << error.what() << '\n';  // there is no such file here
  }
  return 0;
}
