# frozen_string_literal: true

require "samplerd/client"

Samplerd::Client.open(ARGV.fetch(0)) do |client|
  p client.sample([1.0, 2.0, 0.5, 1.5], temperature: 0.7, num_samples: 5, seed: 1234).samples.first
end
