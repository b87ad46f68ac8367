# frozen_string_literal: true

require "helper"
require "timeout"

class ClientTest < Minitest::Test
  def setup
    @fake = FakeServer.new
    @server = GRPC::RpcServer.new
    port = @server.add_http2_port("127.0.0.1:0", :this_port_is_insecure)
    @server.handle(@fake)
    @thread = Thread.new { @server.run }
    @server.wait_till_running
    @client = Samplerd::Client.new("127.0.0.1:#{port}")
  end

  def teardown
    @fake.release.close
    @client.close
    @server.stop
    @thread.join
  end

  def request(id, **fields)
    Samplerd::V1::SampleRequest.new(id: id, **fields)
  end

  def test_retries
    assert_equal [[7]], @client.sample(request(FakeServer::REFUSED_TWICE)).samples
    assert_equal 3, @fake.attempts.size
    error = assert_raises(Samplerd::OverloadedError) { @client.sample(request(FakeServer::REFUSED_FOR_GOOD)) }
    assert error.retryable?
    assert_equal 4, @fake.attempts.size
  end

  def test_violations
    error = assert_raises(Samplerd::InvalidRequestError) { @client.sample(request(FakeServer::WRONG)) }
    assert_equal [["params.top_p", "no"]], error.violations.map(&:to_a)
    assert_equal 1, @fake.attempts.size
  end

  def test_deadline
    assert_raises(Samplerd::DeadlineError) { @client.sample(request(FakeServer::SLOW), timeout: 0.05) }
  end

  def test_cancel
    call = @client.sample_async(request(FakeServer::SLOW))
    @fake.attempts.pop
    call.cancel
    assert_raises(Samplerd::CancelledError) { call.value }
  end

  def test_interrupt
    5.times do
      assert_raises(Timeout::Error) { Timeout.timeout(0.05) { @client.sample(request(FakeServer::SLOW)) } }
      GC.start
    end
  end

  def test_stream_matches_by_id
    stream = @client.stream
    one = stream.submit(request(0, num_samples: 3))
    two = stream.submit(request(FakeServer::WRONG))
    assert_raises(ArgumentError) { stream.submit(request(FakeServer::WRONG)) }
    three = stream.submit(request(2**63, num_samples: 2))
    stream.close
    assert_equal [[[0, 1, 2]], [[1, 2, 3]]], [one.value.samples, one.value.ranks]
    assert_equal "params.top_p", assert_raises(Samplerd::InvalidRequestError) { two.value }.violations.first.field
    assert_equal [0, 1], three.value.flat_samples
    assert_raises(Samplerd::Error) { stream.submit(request(0)) }
  end

  def test_stream_gives_chunks
    chunks = []
    stream = @client.stream
    all = stream.submit(request(0, num_samples: 3)) { |chunk| chunks << [chunk.response.chunk, *chunk.flat_samples] }
    raising = stream.submit(request(0, num_samples: 3)) { raise KeyError, "mine" }
    stream.close
    assert_nil all.value
    assert_equal [[0, 0], [1, 1], [2, 2]], chunks
    assert_raises(KeyError) { raising.value }
  end

  def test_stream_holds_back_and_ends
    stream = @client.stream(max_in_flight: 1)
    first = stream.submit(request(0, num_samples: 1))
    second = Thread.new { stream.submit(request(0, num_samples: 1)) }
    second.report_on_exception = false
    assert_nil second.join(0.05)
    assert_raises(Timeout::Error) { first.value(timeout: 0.01) }
    stream.cancel
    assert_raises(Samplerd::CancelledError) { first.value }
    assert_raises(IOError, Samplerd::Error) { second.value }
    stream.close
  end

  def test_chunks_come_in_order_after_refusals
    got = @client.draw_chunks(distribution: "busy", num_samples: 6).map { |each| [each.offset, each.flat_samples] }
    assert_equal [[0, [0, 9]], [2, [1, 9]], [4, [2, 9]]], got
    assert_equal 3, @fake.attempts.size
  end

  def test_a_draw_that_has_begun_is_not_tried_again
    %w[broken cut].each do |name|
      got = []
      assert_raises(Samplerd::UnavailableError) { @client.draw_chunks(distribution: name) { |each| got << each.chunk } }
      assert_equal [0], got
    end
    assert_equal 2, @fake.attempts.size
  end

  def test_a_chunk_that_is_late_and_a_block_that_is_left
    got = []
    assert_raises(Samplerd::DeadlineError) do
      @client.draw_chunks(distribution: "silent", timeout: 0.2) { |each| got << each.chunk }
    end
    assert_equal [0], got
    assert_raises(KeyError) { @client.draw_chunks(distribution: "silent") { raise KeyError } }
    assert_equal(:left, @client.draw_chunks(distribution: "silent") { break :left })
  end

  def test_sample_each
    requests = Array.new(6) { |i| request(0, num_samples: i + 1) }
    sizes = @client.sample_each(requests, max_in_flight: 64).map { |_, result| result.flat_samples.size }
    assert_equal [1, 2, 3, 4, 5, 6], sizes
  end

  def test_several_servers_are_of_one_kind
    joint = ->(*targets) { Samplerd::Connection.joint(targets) }
    assert_equal "ipv4:10.0.0.1:1,127.0.0.1:2", joint.call("10.0.0.1:1", "ipv4:127.0.0.1:2")
    assert_equal "ipv6:[::1]:1,[::2]:2", joint.call("[::1]:1", "[::2]:2")
    assert_equal "unix:/a,/b", joint.call("unix:/a", "unix:///b")
    assert_equal "a.example:1", joint.call("a.example:1")
    [[], %w[10.0.0.1:1 [::1]:1], %w[a:1 b:1]].each do |targets|
      assert_raises(ArgumentError) { joint.call(*targets) }
    end
    assert_raises(ArgumentError) { Samplerd::Client.new("127.0.0.1:1", connections: 0) }
    assert_raises(ArgumentError) { Samplerd::Client.new(%w[127.0.0.1:1 10.0.0.1:1], token: "t") }
  end

  def test_token_is_not_shown
    assert_raises(ArgumentError) { Samplerd::Client.new("10.0.0.1:1", token: "t") }
    assert_raises(ArgumentError) { Samplerd::Client.new("127.0.0.1.example:1", token: "t") }
    ["127.9.9.9:1", "localhost:1", "[::1]:1", "unix:/tmp/a"].each do |target|
      assert Samplerd::Connection.local?(target)
    end
    Samplerd::Client.open("10.0.0.1:1", token: "t", allow_plaintext_token: true) { |client| assert client }
  end
end
