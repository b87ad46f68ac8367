# frozen_string_literal: true

require "helper"

class RequestsTest < Minitest::Test
  def test_keywords_find_their_places
    request = Samplerd::Requests.sample(
      [1.0, 2.0],
      temperature: 0.7, order: :vllm, logit_bias: { 1 => -2.0 }, num_samples: 3, seed: 9, replacement: false,
      probabilities: true, logprobs: %i[raw processed], top_n: 2
    )
    assert_equal [0.7, :ORDER_VLLM], [request.params.temperature, request.params.order]
    assert_equal [1, -2.0], [request.params.logit_bias[0].id, request.params.logit_bias[0].bias]
    assert_equal [3, 9, :REPLACEMENT_WITHOUT], [request.num_samples, request.seed, request.replacement]
    assert_equal %i[LOGPROB_KIND_RAW LOGPROB_KIND_PROCESSED], request.outputs.logprobs.to_a
    assert_equal [2, :INPUT_KIND_PROBABILITIES, :tensor], [request.outputs.top_n, request.kind, request.source]
  end

  def test_other_sources
    assert_equal "words", Samplerd::Requests.sample(distribution: "words").distribution
    assert_equal [0.0, 1.0], Samplerd::Requests.sample(values: [[0.0, 1.0]]).values.row[0].values.to_a
    candidates = { vocab_size: 9, row: [{ ids: [4], logits: [0.5] }] }
    assert_equal 9, Samplerd::Requests.sample(candidates: candidates).candidates.vocab_size
    assert_equal 500_000_000, Samplerd::Requests.create([1.0], name: "a", ttl: 1.5).ttl.nanos
  end

  def test_verify
    request = Samplerd::Requests.verify([[0.0, 1.0]] * 3, [1, 0], [[0.5, 0.5]] * 2, top_k: 1, seed: 4)
    assert_equal [3, 2, [1, 0], 1],
                 [request.target.rows, request.draft.rows, request.draft_ids.to_a, request.params.top_k]
  end

  def test_unknown_keyword
    assert_raises(ArgumentError) { Samplerd::Requests.sample([1.0], temprature: 1) }
    assert_raises(ArgumentError) { Samplerd::Requests.verify([1.0], [], top_n: 1) }
  end
end
