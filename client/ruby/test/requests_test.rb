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

  def test_sequences_and_scopes
    params = Samplerd::Requests.sample(
      [0.0], bad_words: [[7], [8, 9]], frequency_scope: :output, presence_scope: :PENALTY_SCOPE_HISTORY, history: [3, 1],
             prompt_length: 1, dry: { multiplier: 1.5, breaker_sequences: [[1, 2]], sequence_breakers: [5] }
    ).params
    assert_equal [[7], [8, 9]], (params.bad_words.map { |each| each.ids.to_a })
    assert_equal %i[PENALTY_SCOPE_OUTPUT PENALTY_SCOPE_HISTORY], [params.frequency_scope, params.presence_scope]
    assert_equal [[3, 1], 1], [params.history.to_a, params.prompt_length]
    assert_equal [1.5, [1, 2], [5]],
                 [params.dry.multiplier, params.dry.breaker_sequences[0].ids.to_a, params.dry.sequence_breakers.to_a]
    given = Samplerd::V1::DryParams.new(multiplier: 2.0)
    assert_equal 2.0, Samplerd::Requests.sample([0.0], dry: given).params.dry.multiplier
  end

  def test_steps_and_ties
    params = Samplerd::Requests.sample([0.0], steps: %i[min_p temperature], ties: :lowest_id).params
    assert_equal %i[FILTER_STEP_MIN_P FILTER_STEP_TEMPERATURE], params.steps.to_a
    assert_equal :TIE_RULE_LOWEST_ID, params.ties
  end

  def test_guidance
    request = Samplerd::Requests.sample([1.0, 2.0], guidance: [2.0, 1.0], guidance_scale: 1.5, dtype: :f16)
    assert_equal [1, 2, :DTYPE_F16], [request.guidance.tensor.rows, request.guidance.tensor.vocab_size,
                                      request.guidance.tensor.dtype]
    assert_equal 1.5, request.params.guidance_scale
    given = { values: { row: [{ values: [2.0, 1.0] }] } }
    assert_equal [2.0, 1.0], Samplerd::Requests.sample([1.0, 2.0], guidance: given).guidance.values.row[0].values.to_a
  end

  def test_a_tree
    request = Samplerd::Requests.verify([[0.0, 1.0]] * 3, [1, 0], parents: [-1, -1])
    assert_equal [[-1, -1], false], [request.parents.to_a, request.has_draft?]
  end

  def test_unknown_keyword
    assert_raises(ArgumentError) { Samplerd::Requests.sample([1.0], temprature: 1) }
    assert_raises(ArgumentError) { Samplerd::Requests.verify([1.0], [], top_n: 1) }
    assert_raises(ArgumentError) { Samplerd::Requests.sample([1.0], dry: { multiplyer: 1.0 }) }
  end
end
