# frozen_string_literal: true

require "timeout"

# How calls are made: limits, deadline, cancel, retry, metadata, tls, token.
module Connections
  LARGE_ROW = 3_000_000
  LARGE_DRAW = 2_000_000

  def limits
    connect do |client|
      most = client.server_info.limits.max_message_bytes
      expect(most.positive?, "max_message_bytes is not told")
      client.sample([0.0] * LARGE_ROW)
      samples = client.sample(values: [[0.0, 0.0]], num_samples: LARGE_DRAW).response.samples
      expect(samples.size == LARGE_DRAW, "#{samples.size} samples")
      "max_message_bytes #{most}"
    end
  end

  def deadline
    slow = slow_request
    connect do |client|
      client.server_info # connected, so that the 50 ms are the server's
      fails(Samplerd::DeadlineError, Samplerd::OverloadedError) { client.sample(slow, timeout: 0.05) }
    end
  end

  def cancel
    slow = slow_request
    connect do |client|
      client.server_info
      call = client.sample_async(slow)
      sleep 0.1
      expect(!call.done?, "it was over before it could be cancelled")
      call.cancel
      Timeout.timeout(1) { fails(Samplerd::CancelledError) { call.value } }
      began = Process.clock_gettime(Process::CLOCK_MONOTONIC)
      begin
        Timeout.timeout(0.1) { client.sample(slow) }
        raise Mismatch, "it was over before it could be interrupted"
      rescue Timeout::Error
        waited = Process.clock_gettime(Process::CLOCK_MONOTONIC) - began
        expect(waited < 1, "it was interrupted after #{waited} s only")
      end
      "CANCELLED"
    end
  end

  def retry
    Samplerd::Client.open(flag("retry-target")) do |client|
      [1, 4].each do |id|
        samples = client.sample([0.0], id: id).samples
        expect(samples == [[7]], "answered with #{samples}")
      end
      fails(Samplerd::OverloadedError) { client.sample([0.0], id: 2) }
      fails(Samplerd::InvalidRequestError) { client.sample([0.0], id: 3) }
    end
    "tried again twice"
  end

  def metadata
    Samplerd::Client.open(flag("retry-target"), metadata: { "x-tenant" => "conformance" }) do |client|
      samples = client.sample(distribution: "prior").samples
      expect(samples == [[7]], "answered with #{samples}")
    end
    "and the distribution's name"
  end

  def tls
    first = @vectors["calls"].first
    check_reply(first["name"], over_tls(ca: flag("ca"), token: flag("token")).response, first["reply"])
    refused = fails(Samplerd::UnavailableError, Samplerd::DeadlineError) { over_tls(ca: nil, token: flag("token")) }
    "and #{refused} without the CA"
  end

  def token
    fails(Samplerd::UnauthenticatedError) { over_tls(ca: flag("ca"), token: "wrong") }
    fails(Samplerd::UnauthenticatedError) { over_tls(ca: flag("ca"), token: nil) }
  end

  private

  def slow_request
    slow = @vectors["slow"]
    row = Array.new(slow["vocab_size"]) { |i| (i % slow["modulus"]).to_f }
    Samplerd::Requests.sample(row, num_samples: slow["num_samples"])
  end

  def over_tls(ca:, token:)
    tls = Samplerd::TlsConfig.from_files(ca: ca)
    Samplerd::Client.open(flag("tls-target"), tls: tls, token: token, timeout: 5.0) do |client|
      client.sample(decode(@vectors["calls"].first))
    end
  end

  def fails(*errors)
    yield
  rescue *errors => e
    e.class.name.delete_prefix("Samplerd::")
  else
    raise Mismatch, "it was answered, where #{errors} was due"
  end
end
