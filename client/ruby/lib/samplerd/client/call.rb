# frozen_string_literal: true

module Samplerd
  # One call with all its attempts.
  #
  # Rule 1: the timeout bounds all attempts together. Rule 2: once it is cancelled, the attempt in flight is cancelled
  # and no other is made. Rule 3: it is made in a thread of its own, which nobody interrupts: a thread that is taken out
  # of a call (Timeout.timeout, Thread#kill) leaves events behind, at which gRPC's C core may abort the process.
  class Call
    # timeout: in seconds. budget: the client's RetryBudget. The block begins an attempt: it is given a deadline (Time), and returns gRPC's operation.
    # convert: makes the value of the reply. open: tells whether the client has not been closed. execute: brings what an
    # operation gives. repeatable: tells whether nothing of it has been used. ended: called when no attempt follows.
    def initialize(timeout:, policy:, budget:, repeat_unavailable: true, convert: ->(reply) { reply },
                   open: -> { true }, execute: ->(operation) { operation.execute }, repeatable: -> { true },
                   ended: -> {}, &attempt)
      raise ArgumentError, "the timeout must be more than 0, got #{timeout}" unless timeout.positive?

      @timeout = timeout
      @policy = policy
      @budget = budget
      @repeat_unavailable = repeat_unavailable
      @convert = convert
      @open = open
      @execute = execute
      @repeatable = repeatable
      @ended = ended
      @attempt = attempt
      @mutex = Mutex.new
      @changed = ConditionVariable.new
      @cancelled = false
      @operation = nil
      @thread = nil
    end

    # Begins it.
    def start
      ends = now + @timeout
      @thread = Thread.new do
        @convert.call(attempts(ends))
      ensure
        @ended.call
      end
      @thread.report_on_exception = false # whoever asks for the value is told
      self
    end

    # What it brings, waiting for it; raises Error.
    def value
      @thread.value
    end

    # The same for a caller who alone waits for it: interrupted, it is cancelled.
    def run
      start
      value
    ensure
      cancel if @thread && !done?
    end

    # Whether value would not wait.
    def done?
      !@thread.alive?
    end

    # Waits for its end, no longer than this many seconds (nil: as long as it takes), whatever it brings.
    def wait(seconds = nil)
      @thread.join(seconds)
    rescue Error
      @thread # its value raises it
    end

    # Ends it; its value raises CancelledError, unless it was there already.
    def cancel
      @mutex.synchronize do
        @cancelled = true
        @operation&.cancel
        @changed.broadcast
      end
    end

    private

    def attempts(ends)
      (1..).each do |number|
        reply = attempt(ends)
        @budget.deposit
        return reply
      rescue Error => e
        pushback = e.pushback
        wait = @policy.delay(attempt: number, pushback:, remaining: ends - now, uniform: rand) if may_repeat?(e)
        raise unless wait && @budget.withdraw

        pause(wait)
      end
    end

    # An upload whose connection broke may have been done; a refused one was not.
    def may_repeat?(error)
      return false unless @repeatable.call
      return foreign_cancel? && @repeat_unavailable if error.is_a?(CancelledError)

      error.retryable? && (@repeat_unavailable || !error.is_a?(UnavailableError))
    end

    # Whether somebody other than the caller cancelled it, as a server does that ends its connections.
    def foreign_cancel?
      @mutex.synchronize { !@cancelled } && @open.call
    end

    def attempt(ends)
      operation = @mutex.synchronize do
        raise_if_cancelled
        @operation = @attempt.call(Time.now + (ends - now))
      end
      @execute.call(operation)
    rescue GRPC::BadStatus => e
      raise Error.from_grpc(e)
    end

    # Waits at least this many seconds, unless the call is cancelled.
    def pause(seconds)
      wakes = now + seconds
      @mutex.synchronize do
        @operation = nil
        @changed.wait(@mutex, wakes - now) while !@cancelled && now < wakes
        raise_if_cancelled
      end
    end

    def raise_if_cancelled
      raise CancelledError.new("cancelled by the caller", code: GRPC::Core::StatusCodes::CANCELLED) if @cancelled
    end

    def now
      Process.clock_gettime(Process::CLOCK_MONOTONIC)
    end
  end
end
