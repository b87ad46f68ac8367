# frozen_string_literal: true

# What is drawn: calls, arrays, frequencies, stream.
module Draws
  FIRST_ID = 1000

  def calls
    connect do |client|
      @vectors["calls"].each { |call| check_call(client, call) }
    end
    "#{@vectors['calls'].size} calls"
  end

  def arrays
    connect do |client|
      @vectors["arrays"].each do |array|
        dtype = array["dtype"].downcase.to_sym
        tensor = Samplerd::Tensors.encode(array["rows"], dtype)
        expect(tensor.data == Base64.decode64(array["data"]), "#{array['name']}: other bytes")
        options = %w[temperature seed num_samples].to_h { |name| [name.to_sym, array[name]] }
        samples = client.sample(array["rows"], dtype: dtype, **options).flat_samples
        expect(samples == array["samples"], "#{array['name']}: drew #{samples}")
      end
    end
    "#{@vectors['arrays'].size} arrays"
  end

  def halves
    halves = @vectors["arrays"].reject { |array| array["dtype"] == "F32" }
    connect do |client|
      halves.each do |array|
        rows = Samplerd::Tensors.bits(
          Base64.decode64(array["data"]), array["dtype"].downcase.to_sym, rows: array["rows"].size
        )
        options = %w[temperature seed num_samples].to_h { |name| [name.to_sym, array[name]] }
        samples = client.sample(rows, **options).flat_samples
        expect(samples == array["samples"], "#{array['name']}: drew #{samples}")
      end
    end
    "#{halves.size} arrays"
  end

  def frequencies
    connect do |client|
      @vectors["frequencies"].each do |law|
        request = Samplerd::V1::SampleRequest.decode(Base64.decode64(law["request"]))
        check_law(law, client.sample(request).flat_samples)
      end
    end
    "#{@vectors['frequencies'].size} laws"
  end

  def stream
    asked = seeded_samples
    connect do |client|
      client.stream(max_in_flight: asked.size) do |stream|
        promises = asked.map { |request, _| stream.submit(request) }
        asked.zip(promises) do |(request, call), promise|
          check_reply(call["name"], promise.value.response, call["reply"].merge("id" => request.id.to_s))
        end
      end
    end
    "#{asked.size} requests in flight"
  end

  private

  def seeded_samples
    calls = @vectors["calls"].select { |call| call["rpc"] == "Sample" && call.key?("reply") }
    pairs = calls.map { |call| [decode(call), call] }.reject { |request, _| request.source == :distribution }
    pairs.each.with_index(FIRST_ID) { |(request, _), id| request.id = id }
  end

  def decode(call)
    Samplerd::V1.const_get("#{call['rpc']}Request").decode(Base64.decode64(call["request"]))
  end

  def check_call(client, call)
    name = call["name"]
    begin
      reply = make(client, call)
    rescue Samplerd::Error => e
      want = call.fetch("error", {})
      expect(e.code == want["code"], "#{name}: #{e.class}: #{e.message}")
      fields = e.violations.map(&:field)
      return expect(want["fields"].empty? || want["fields"] == fields, "#{name}: names #{fields}")
    end
    expect(call.key?("reply"), "#{name}: succeeded, where #{call['error']} was due")
    check_reply(name, reply, call["reply"]) if %w[Sample VerifyDraft].include?(call["rpc"])
  end

  def make(client, call)
    request = decode(call)
    case call["rpc"]
    when "Sample" then client.sample(request).response
    when "VerifyDraft" then client.verify_draft(request)
    when "CreateDistribution" then client.create_distribution(request)
    when "DeleteDistribution" then client.delete_distribution(request.name)
    else raise Mismatch, "no such call: #{call['rpc']}"
    end
  end

  def check_reply(name, reply, want)
    expect(@replies.same?(reply, want), "#{name}: got #{reply.to_json}, not #{want}")
  end

  def check_law(law, samples)
    counts = samples.tally
    statistic = law["probabilities"].each_with_index.sum do |probability, id|
      count = counts.fetch(id, 0)
      expect(probability.positive? || count.zero?, "#{law['name']}: #{id} is impossible, and was drawn")
      expected = probability * law["draws"]
      expected.zero? ? 0 : ((count - expected)**2) / expected
    end
    expect(samples.size == law["draws"], "#{law['name']}: #{samples.size} draws")
    expect(statistic <= law["critical"], "#{law['name']}: #{statistic} > #{law['critical']}")
  end
end
