# frozen_string_literal: true

# Large draws, chunk by chunk: chunks.
module Chunks
  ENDLESS = 2_000_000_000

  def chunks
    own = @vectors["chunks"]
    connect do |client|
      name = client.create_distribution(own["rows"]).name
      own["cases"].each_with_index { |each, index| check_chunks(client, name, each, raw_samples: index == 1) }
      fails_after(Samplerd::InvalidRequestError, 0) { refused_field(client, name) }
      fails_after(Samplerd::NotFoundError, 0) { client.draw_chunks(distribution: "there.is.none") }
      stop_early(client, name)
      client.delete_distribution(name)
    end
    Samplerd::Client.open(flag("retry-target")) { |client| refuse_chunks(client) }
    "#{own['cases'].size} draws"
  end

  private

  def check_chunks(client, name, each, raw_samples:)
    options = %w[seed draw_offset temperature num_samples].to_h { |key| [key.to_sym, each[key]] }
    got = client.draw_chunks(distribution: name, raw_samples: raw_samples, **options).to_a
    ids = got.map(&:flat_samples)
    expect(ids.flatten == each["samples"], "#{each['name']}: drew #{ids.flatten}")
    expect(got.size > 1 && got.map(&:chunk) == [*0...got.size], "#{each['name']}: chunks #{got.map(&:chunk)}")
    offsets = Array.new(got.size) { |index| ids.first(index).sum(&:size) }
    expect(got.map(&:offset) == offsets, "#{each['name']}: offsets #{got.map(&:offset)}")
    expect(got.map(&:final).index(true) == got.size - 1, "#{each['name']}: the last chunk is not final")
    expect(got.map(&:seed).uniq == [each["seed"]], "#{each['name']}: another seed")
  end

  def refuse_chunks(client)
    busy = client.draw_chunks(distribution: "busy").flat_map(&:flat_samples)
    expect(busy == [7, 8], "a server that was busy answered with #{busy}")
    fails_after(Samplerd::UnavailableError, 1) { client.draw_chunks(distribution: "broken") }
    fails_after(Samplerd::UnavailableError, 1) { client.draw_chunks(distribution: "cut") }
    slow = client.draw_chunks(distribution: "slow", timeout: 2.0).map(&:chunk) # longer in all than one wait
    expect(slow == [0, 1, 2, 3, 4], "a slow draw had chunks #{slow}")
    fails_after(Samplerd::DeadlineError, 1) { client.draw_chunks(distribution: "silent", timeout: 0.3) }
    stop_early(client, "endless")
    samples = client.sample(distribution: "left").samples # answered once no draw is in flight
    expect(samples == [[7]], "answered with #{samples}")
  end

  # How a draw fails, after so many chunks.
  def fails_after(error, chunks)
    got = 0
    fails(error) { yield.each { got += 1 } }
    expect(got == chunks, "failed after #{got} chunks, not #{chunks}")
  end

  # A draw that the server refuses, and says why.
  def refused_field(client, name)
    client.draw_chunks(distribution: name, temperature: -1.0).to_a
  rescue Samplerd::InvalidRequestError => e
    expect(e.violations.map(&:field) == ["params.temperature"], "names #{e.violations}")
    raise
  end

  def stop_early(client, name)
    first = client.draw_chunks(distribution: name, num_samples: ENDLESS).first(2).map(&:chunk)
    expect(first == [0, 1], "began with chunks #{first}")
  end
end
