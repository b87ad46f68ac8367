# frozen_string_literal: true

module Samplerd
  # Connections to a samplerd, or to several. Any number of threads may share one.
  #
  # Whatever waits raises Error when the call fails. A call has a timeout in seconds, retries included; Timeout.timeout,
  # Thread#kill or Call#cancel end it, and the server frees its work.
  class Client
    # Connects; the connections are made by the first calls.
    #
    # target::              "host:port", "unix:/path"; or an array of these, all of one kind (IPv4, IPv6, Unix sockets),
    #                       which get the calls in turn as long as they are healthy: one that starts, drains or is gone
    #                       gets none
    # balance::             the same for a name that stands for several addresses ("dns:///host:port")
    # connections::         connections to each server, on which calls take turns. With 1, the clients of a process share
    #                       one. A server with several workers gives a connection to one of them
    # tls::                 a TlsConfig; nil: plain text
    # token::               sent as "authorization: Bearer"
    # timeout::             seconds, of each call with all its attempts
    # retry_policy::        a RetryPolicy
    # max_message_bytes::   the largest reply that is taken; requests are bounded by the server
    #
    # metadata::            sent with every call, by lower-case keys. Calls about an uploaded distribution carry its name as
    #                       x-samplerd-distribution in any case, by which a proxy can choose the server
    #
    # Raises ArgumentError if the token would cross the network in plain text, unless allow_plaintext_token.
    def initialize(target, tls: nil, token: nil, timeout: 30.0, retry_policy: RetryPolicy.new,
                   max_message_bytes: Connection::MAX_MESSAGE_BYTES, allow_plaintext_token: false, metadata: {},
                   balance: target.is_a?(Array), connections: 1)
      raise ArgumentError, "connections must be at least 1, got #{connections}" if connections < 1

      targets = Array(target)
      own = Connection.metadata(targets, token: token, tls: tls, allow_plaintext_token: allow_plaintext_token)
      @metadata = metadata.merge(own)
      @closed = false
      @timeout = timeout
      @retry_policy = retry_policy
      @budget = RetryBudget.new(retry_policy)
      @channels = Array.new(connections) do
        Connection.open(targets, tls: tls, max_message_bytes: max_message_bytes, balance: balance, own: connections > 1)
      end
      @stubs = @channels.map { |channel| V1::SamplerService::Stub.new(targets.first, nil, channel_override: channel) }
      @turn = Mutex.new
    end

    # The same, given to a block and closed after it.
    def self.open(target, **options)
      client = new(target, **options)
      return client unless block_given?

      begin
        yield client
      ensure
        client.close
      end
    end

    # Draws from every row; returns a Result. See Requests.sample for rows and options; a V1::SampleRequest is sent as
    # it is.
    def sample(rows = nil, timeout: @timeout, **options)
      sample_call(Requests.sample(rows, **options), timeout).run
    end

    # The same in a thread of its own; returns a Call, whose value is the Result and whose cancel cancels it.
    def sample_async(rows = nil, timeout: @timeout, **options)
      sample_call(Requests.sample(rows, **options), timeout).start
    end

    # Draws any number of samples from a distribution (distribution:) in bounded memory: yields each Chunk in order, or
    # returns an Enumerator. Options are those of sample. The server draws as the chunks are taken; leaving the block
    # (break, an exception, Timeout.timeout) ends the call.
    #
    # timeout bounds the wait for each chunk, for the first one with all attempts: until it comes the call is tried again
    # as others are, and not after it. What was broken off can be continued with the same seed: and, for one row, a
    # draw_offset: that is larger by the ids taken.
    #
    # Raises NotFoundError, DeadlineError for a chunk that took too long, UnavailableError if the call ended before the
    # last chunk.
    def draw_chunks(request = nil, timeout: @timeout, **options, &block)
      return enum_for(:draw_chunks, request, timeout: timeout, **options) unless block

      request = Requests.sample(request, **options)
      metadata = @metadata.merge(Connection.about(request))
      draw = Draw.new(request, timeout: timeout, policy: @retry_policy, budget: @budget, open: -> { !@closed }) do
        stub.sample_distribution(request, metadata: metadata, return_op: true)
      end
      draw.each(&block)
      nil
    end

    # Accepts or corrects the drafted tokens of one sequence; returns a V1::VerifyDraftResponse. See Requests.verify.
    def verify_draft(target, draft_ids = nil, draft = nil, timeout: @timeout, **options)
      call(:verify_draft, Requests.verify(target, draft_ids, draft, **options), timeout: timeout)
    end

    # Keeps rows on the server, to be sampled with distribution: name. Returns a V1::Distribution. Never sent again
    # after UNAVAILABLE, as it may have been done.
    def create_distribution(rows = nil, timeout: @timeout, **options)
      call(:create_distribution, Requests.create(rows, **options), timeout: timeout).distribution
    end

    # Describes a distribution (V1::Distribution); NotFoundError when there is none of that name.
    def distribution(name)
      call(:get_distribution, V1::GetDistributionRequest.new(name: name)).distribution
    end

    # Frees a distribution; NotFoundError when there is none of that name.
    def delete_distribution(name)
      call(:delete_distribution, V1::DeleteDistributionRequest.new(name: name))
      nil
    end

    # All distributions, ordered by name: an Enumerator, or each to the block.
    def distributions(&block)
      return enum_for(:distributions) unless block

      token = ""
      loop do
        page = call(:list_distributions, V1::ListDistributionsRequest.new(page_token: token))
        page.distributions.each(&block)
        token = page.next_page_token
        break if token.empty?
      end
    end

    # What the server is, what it can do and where its limits are (V1::GetServerInfoResponse).
    def server_info
      call(:get_server_info, V1::GetServerInfoRequest.new)
    end

    # Makes any unary call of the service (:sample, :get_server_info, ...), with retries; returns the reply.
    def call(rpc, request, timeout: @timeout)
      unary(rpc, request, timeout).run
    end

    # Opens a stream of draws with at most this many requests in flight. It is given to the block and closed after it, or
    # returned. See SampleStream.
    def stream(max_in_flight: 64, &block)
      wrap = ->(request, response) { Result.new(request, response) }
      with_stream(SampleStream, :sample_stream, max_in_flight, wrap, &block)
    end

    # The same for drafts; promises bring V1::VerifyDraftResponse. See VerifyStream.
    def verify_stream(max_in_flight: 64, &block)
      with_stream(VerifyStream, :verify_draft_stream, max_in_flight, ->(_, response) { response }, &block)
    end

    # Draws for each request of an Enumerable, many at once over one stream: yields (request, Result) in the order
    # asked, or returns an Enumerator. Raises the first error.
    def sample_each(requests, max_in_flight: 64)
      return enum_for(:sample_each, requests, max_in_flight: max_in_flight) unless block_given?

      stream(max_in_flight: max_in_flight) do |stream|
        window = []
        requests.each do |request|
          window << [request, stream.submit(request)]
          next if window.size < max_in_flight

          first, promise = window.shift
          yield first, promise.value
        end
        window.each { |first, promise| yield first, promise.value }
      end
    end

    # Ends the connections; calls in flight fail.
    def close
      @closed = true
      @channels.each(&:close)
      nil
    end

    private

    # That of the connection whose turn it is; a stream stays on the one that it began on.
    def stub
      @turn.synchronize { @stubs.rotate!.first }
    end

    def sample_call(request, timeout)
      unary(:sample, request, timeout, ->(response) { Result.new(request, response) })
    end

    def unary(rpc, request, timeout, convert = ->(reply) { reply })
      repeat = rpc != :create_distribution
      open = -> { !@closed }
      Call.new(
        timeout: timeout, policy: @retry_policy, budget: @budget, repeat_unavailable: repeat, convert: convert, open: open
      ) do |deadline|
        stub.public_send(rpc, request, deadline: deadline, metadata: @metadata.merge(Connection.about(request)), return_op: true)
      end
    end

    def with_stream(kind, rpc, max_in_flight, wrap)
      stream = kind.new(max_in_flight: max_in_flight, close_timeout: @timeout, wrap: wrap) do |requests|
        stub.public_send(rpc, requests, metadata: @metadata.dup, return_op: true)
      end
      return stream unless block_given?

      begin
        value = yield stream
        finished = true
        value
      ensure
        stream.cancel unless finished
        stream.close
      end
    end
  end

  # A Stream of draws; its promises bring a Result.
  class SampleStream < Stream
    # As Client#sample; returns a Promise at once. A block is given the chunks of a large draw, each a Result.
    def sample(rows = nil, **options, &)
      submit(Requests.sample(rows, **options), &)
    end
  end

  # A Stream of drafts; its promises bring a V1::VerifyDraftResponse.
  class VerifyStream < Stream
    # As Client#verify_draft; returns a Promise at once.
    def verify_draft(target, draft_ids = nil, draft = nil, **options)
      submit(Requests.verify(target, draft_ids, draft, **options))
    end
  end
end
