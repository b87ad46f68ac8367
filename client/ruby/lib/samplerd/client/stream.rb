# frozen_string_literal: true

module Samplerd
  # A reply that is still to come.
  class Promise
    def initialize
      @mutex = Mutex.new
      @settled = ConditionVariable.new
      @done = false
      @value = @error = nil
    end

    # Waits for the reply and returns it; raises Error, or Timeout::Error after `timeout` seconds. A timeout only ends the
    # wait: the request stays on the stream.
    def value(timeout: nil)
      ends = timeout && (Process.clock_gettime(Process::CLOCK_MONOTONIC) + timeout)
      @mutex.synchronize do
        until @done
          left = ends && (ends - Process.clock_gettime(Process::CLOCK_MONOTONIC))
          raise Timeout::Error, "no reply within #{timeout} s" if left && left <= 0

          @settled.wait(@mutex, left)
        end
      end
      raise @error if @error

      @value
    end

    # Whether value would not wait.
    def done?
      @mutex.synchronize { @done }
    end

    # Settles it, once.
    def settle(value = nil, error: nil)
      @mutex.synchronize do
        next if @done

        @value = value
        @error = error
        @done = true
        @settled.broadcast
      end
    end
  end

  # Many requests over one call, each answered when it is ready. Any number of threads may submit.
  #
  # A request that fails fails its own promise; when the stream itself breaks all promises fail, and nothing is sent
  # again.
  class Stream
    # Who waits for a reply.
    Waiting = Struct.new(:request, :promise, :on_chunk, :whole)
    private_constant :Waiting

    # The block is given what to send (an Enumerator) and returns gRPC's operation. wrap: makes the value of a reply of
    # (request, response). close_timeout: seconds that close waits for replies.
    def initialize(max_in_flight:, close_timeout:, wrap:)
      raise ArgumentError, "max_in_flight must be at least 1, got #{max_in_flight}" if max_in_flight < 1

      @max_in_flight = max_in_flight
      @close_timeout = close_timeout
      @wrap = wrap
      @mutex = Mutex.new
      @room = ConditionVariable.new
      @outgoing = Queue.new
      @waiting = {}
      @last_id = 0
      @broken = nil
      @operation = yield(outgoing)
      @reader = Thread.new { read }
      @reader.report_on_exception = false
    end

    # Sends one request, and returns a Promise. Waits while max_in_flight others are in flight. Its id must differ from
    # theirs; where it is 0 the stream chooses one. A large reply is put together; a block is given its chunks instead,
    # in the thread that brings them: while it runs no other reply arrives, and the server stops sending.
    def submit(request, &on_chunk)
      promise = Promise.new
      @mutex.synchronize do
        wait_for_room
        raise @broken if @broken
        raise IOError, "the stream is closed" if @outgoing.closed?

        request = request.dup.tap { |copy| copy.id = free_id } if request.id.zero?
        raise ArgumentError, "request #{request.id} is under way" if @waiting.key?(request.id)

        @waiting[request.id] = Waiting.new(request, promise, on_chunk)
        @outgoing << request
      end
      promise
    end

    # Sends no more, and waits for the replies in flight; what is missing after the client's timeout is cancelled.
    def close
      close_outgoing
      cancel unless @reader.join(@close_timeout)
      @reader.join
      nil
    end

    # Ends the stream at once; the promises of all that are in flight raise CancelledError.
    def cancel
      close_outgoing
      @operation.cancel
    end

    private

    def close_outgoing
      @mutex.synchronize do
        @outgoing.close
        @room.broadcast
      end
    end

    def outgoing
      Enumerator.new do |requests|
        while (request = @outgoing.pop) # nil once it is closed and empty
          requests << request
        end
      end
    end

    def wait_for_room
      while @waiting.size >= @max_in_flight && !@broken && !@outgoing.closed?
        raise ThreadError, "the block of a chunk cannot wait for room" if Thread.current == @reader

        @room.wait(@mutex)
      end
    end

    def free_id
      loop do
        @last_id += 1
        return @last_id unless @waiting.key?(@last_id)
      end
    end

    def read
      @operation.execute.each { |reply| take(reply) }
      unavailable = GRPC::Core::StatusCodes::UNAVAILABLE
      fail_all(UnavailableError.new("the server closed the stream", code: unavailable))
    rescue GRPC::BadStatus => e
      fail_all(Error.from_grpc(e))
    rescue StandardError => e
      fail_all(e)
    end

    def take(reply)
      entry = @mutex.synchronize { @waiting[reply.id] }
      return unless entry # its block raised, and it was given up
      return settle(reply.id, error: Error.from_status(reply.error)) if reply.error

      last = !reply.respond_to?(:final) || reply.final
      add(entry, reply)
      return unless last

      settle(reply.id, entry.on_chunk ? nil : @wrap.call(entry.request, entry.whole))
    rescue StandardError => e
      settle(reply.id, error: e)
    end

    def add(entry, reply)
      if entry.on_chunk
        entry.on_chunk.call(@wrap.call(entry.request, reply))
      else
        entry.whole = entry.whole ? Result.append(entry.whole, reply) : reply
      end
    end

    def settle(id, value = nil, error: nil)
      entry = @mutex.synchronize do
        @room.signal
        @waiting.delete(id)
      end
      entry&.promise&.settle(value, error: error)
    end

    def fail_all(error)
      entries = @mutex.synchronize do
        @broken = error
        @room.broadcast
        @waiting.values.tap { @waiting = {} }
      end
      @outgoing.close # ends the thread that sends
      entries.each { |entry| entry.promise.settle(error: error) }
    end
  end
end
