# frozen_string_literal: true

require "forwardable"

module Samplerd
  # What was drawn. S samples of each row; a row that cannot be drawn from fails alone.
  class Result
    extend Forwardable

    # The reply as it came (V1::SampleResponse); a large one put together from its chunks.
    attr_reader :response

    # id, seed and rng (enough to replay the draw), row_errors (why rows failed), timing.
    def_delegators :@response, :id, :seed, :rng, :row_errors, :timing, :chunk, :final

    def initialize(request, response)
      @size = [request.num_samples, 1].max
      @response = response
    end

    # Ids drawn: rows x S, in the order of the draws; -1 throughout a failed row.
    def samples
      flat_samples.each_slice(@size).to_a
    end

    # The same in one array.
    def flat_samples
      raw = response.raw_samples
      raw.empty? ? response.samples.to_a : raw.unpack("l<*")
    end

    # Log-probabilities of the samples in a kind that was asked for (:raw, :scaled, :processed): rows x S; NaN
    # throughout a failed row. nil if it was not asked for.
    def logprobs(kind)
      found = response.logprobs.find { |each| each.kind == :"LOGPROB_KIND_#{kind.to_s.upcase}" }
      return nil unless found

      flat = found.raw_samples.empty? ? found.samples.to_a : found.raw_samples.unpack("e*")
      flat.each_slice(@size).to_a
    end

    # Ranks of the samples, 1 for the most likely: rows x S.
    def ranks
      response.ranks.to_a.each_slice(@size).to_a
    end

    # The state of adaptive-p after each sample, if adaptive_state: true was asked for: rows x S; send the one of the
    # sample that the sequence goes on with.
    def adaptive_weighted_sum
      response.adaptive_weighted_sum.to_a.each_slice(@size).to_a
    end

    # The other half of that state: rows x S.
    def adaptive_total_weight
      response.adaptive_total_weight.to_a.each_slice(@size).to_a
    end

    # Entropy of each row in nats, of a kind that was asked for.
    def entropy(kind)
      response.entropies.find { |each| each.kind == :"LOGPROB_KIND_#{kind.to_s.upcase}" }&.nats&.to_a
    end

    # Adds the next chunk: what is per sample goes on, what is per row came with chunk 0.
    def self.append(whole, part)
      whole.samples.concat(part.samples.to_a)
      whole.raw_samples += part.raw_samples
      whole.ranks.concat(part.ranks.to_a)
      whole.adaptive_weighted_sum.concat(part.adaptive_weighted_sum.to_a)
      whole.adaptive_total_weight.concat(part.adaptive_total_weight.to_a)
      part.logprobs.each_with_index do |more, index|
        next whole.logprobs.push(more) if index == whole.logprobs.size

        all = whole.logprobs[index]
        all.samples.concat(more.samples.to_a)
        all.raw_samples += more.raw_samples
      end
      whole.final = part.final
      whole
    end
  end
end
