# frozen_string_literal: true

module Samplerd
  # A part of a large draw: a Result whose flat_samples are the next ids of the row-major sequence of all rows x S.
  class Chunk < Result
    # Index of its first id in that sequence.
    attr_reader :offset

    def initialize(request, response, offset)
      super(request, response)
      @offset = offset
    end
  end

  # One large draw, chunk by chunk.
  #
  # Rule 1: each wait for a chunk is bounded, the first one with all attempts. Rule 2: what has begun is not tried again.
  # Rule 3: the thread of the Call reads, and holds one chunk until it is taken; whoever leaves ends the call and waits
  # for that thread.
  class Draw
    # options: of the Call. The block begins an attempt, and returns gRPC's operation.
    def initialize(request, timeout:, **options, &attempt)
      @request = request
      @timeout = timeout
      @mutex = Mutex.new
      @changed = ConditionVariable.new
      @reply = nil
      @begun = @ended = @left = false
      @call = Call.new(timeout: timeout, execute: method(:read), repeatable: -> { !@begun }, ended: method(:ended),
                       **options) { |_deadline| attempt.call }
    end

    # Yields each Chunk; raises Error.
    def each
      @call.start
      offset = 0
      while (reply = take)
        chunk = Chunk.new(@request, reply, offset)
        yield chunk
        return @call.wait(@timeout) if chunk.final

        offset += chunk.flat_samples.size
      end
      code = GRPC::Core::StatusCodes::UNAVAILABLE
      raise UnavailableError.new("the server ended the call before the last chunk", code: code)
    ensure
      leave
    end

    private

    def leave
      @mutex.synchronize do
        @left = true
        @changed.broadcast
      end
      @call.cancel unless @call.done?
      @call.wait
    end

    # The next reply, or nil after the last one.
    def take
      ends = now + @timeout
      @mutex.synchronize do
        until @reply || @ended
          late if now >= ends
          @changed.wait(@mutex, ends - now)
        end
        reply = @reply
        @reply = nil
        @changed.broadcast
        return reply if reply
      end
      @call.value
      nil
    end

    def late
      code = GRPC::Core::StatusCodes::DEADLINE_EXCEEDED
      raise DeadlineError.new("no chunk came within #{@timeout} s", code: code)
    end

    def read(operation)
      operation.execute.each do |reply|
        @mutex.synchronize do
          @begun = true
          @changed.wait(@mutex) while @reply && !@left
          @reply = reply unless @left
          @changed.broadcast
        end
      end
      nil
    end

    def ended
      @mutex.synchronize do
        @ended = true
        @changed.broadcast
      end
    end

    def now
      Process.clock_gettime(Process::CLOCK_MONOTONIC)
    end
  end
end
