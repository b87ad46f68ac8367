# frozen_string_literal: true

# A warning about a file of ours is an error; those about libraries are not ours to mend.
module Warning
  OURS = File.expand_path("..", __dir__)

  def self.warn(message, **)
    path = File.expand_path(message[/\A[^:]+/])
    raise message if path.start_with?(OURS) && !path.start_with?(File.join(OURS, "build"))
  end
end

require "minitest/autorun"
require "samplerd/client"

# A server within this process: what it does with a request is up to the request's id.
class FakeServer < Samplerd::V1::SamplerService::Service
  REFUSED_TWICE = 1001
  REFUSED_FOR_GOOD = 1002
  WRONG = 1003
  SLOW = 1004

  attr_reader :attempts, :release

  def initialize
    super
    @attempts = Queue.new
    @release = Queue.new
  end

  def sample(request, _call)
    attempts << request.id
    case request.id
    when REFUSED_FOR_GOOD then refuse("-1")
    when REFUSED_TWICE then refuse("5") if attempts.size <= 2
    when WRONG then fail_wrong
    when SLOW then @release.pop
    end
    Samplerd::V1::SampleResponse.new(id: request.id, samples: [7], final: true)
  end

  # Answers three requests at once or, when no more come, what is left: the last one first, in chunks of one sample.
  def sample_stream(requests)
    requests.each_slice(3).lazy.flat_map { |group| group.reverse.flat_map { |request| chunks(request) } }
  end

  # Large draws by the name of the distribution: three chunks, the first two attempts refused or not; one chunk, and
  # then a failure, an early end, or nothing more until the client goes.
  def sample_distribution(request, call)
    attempts << request.distribution
    refuse("5") if request.distribution == "busy" && attempts.size <= 2
    large(request, call)
  end

  private

  def large(request, _call)
    Enumerator.new do |replies|
      3.times do |i|
        replies << Samplerd::V1::SampleResponse.new(samples: [i, 9], chunk: i, final: i == 2)
        case request.distribution
        when "broken" then raise GRPC::Unavailable, "gone"
        when "cut" then break
        when "silent" then @release.pop
        end
      end
    end
  end

  def chunks(request)
    return [Samplerd::V1::SampleResponse.new(id: request.id, error: wrong, final: true)] if request.id == WRONG

    size = request.num_samples
    Array.new(size) do |i|
      Samplerd::V1::SampleResponse.new(id: request.id, samples: [i], ranks: [i + 1], chunk: i, final: i + 1 == size)
    end
  end

  def fail_wrong
    raise GRPC::InvalidArgument.new("no", { "grpc-status-details-bin" => Google::Rpc::Status.encode(wrong) })
  end

  def refuse(pushback)
    raise GRPC::ResourceExhausted.new("full", { "grpc-retry-pushback-ms" => pushback })
  end

  def wrong
    bad = Google::Rpc::BadRequest.new(field_violations: [{ field: "params.top_p", description: "no" }])
    Google::Rpc::Status.new(code: 3, message: "no", details: [Google::Protobuf::Any.pack(bad)])
  end
end
