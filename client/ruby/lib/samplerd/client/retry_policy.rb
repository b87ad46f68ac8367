# frozen_string_literal: true

module Samplerd
  # How often, and after how long, a call is tried again.
  #
  # Only RESOURCE_EXHAUSTED and UNAVAILABLE are, and CANCELLED that the caller did not ask for, as of a server that ends
  # its connections; never past the deadline. Where the server says when to come back
  # (the trailer grpc-retry-pushback-ms), that is when; a hint that is negative or no number means never. Where it does
  # not, the wait is uniform between 0 and an upper end that doubles with each attempt (full jitter).
  class RetryPolicy
    # Attempts in all; 1 means never again.
    attr_reader :max_attempts
    # Retries that a client may make in a burst, over all its calls; each uses up one.
    attr_reader :budget
    # Retries that each successful call gives back: with 0.1, at most one for ten such calls in the long run.
    attr_reader :budget_refill

    # initial_backoff, max_backoff: upper ends of the first and of the longest wait, in seconds.
    def initialize(max_attempts: 4, initial_backoff: 0.05, max_backoff: 2.0, budget: 20.0, budget_refill: 0.1)
      raise ArgumentError, "max_attempts must be at least 1, got #{max_attempts}" if max_attempts < 1
      raise ArgumentError, "expected 0 <= initial_backoff <= max_backoff" if initial_backoff.negative?
      raise ArgumentError, "expected initial_backoff <= max_backoff" if initial_backoff > max_backoff

      raise ArgumentError, "expected budget >= 0, budget_refill >= 0" if budget.negative? || budget_refill.negative?

      @max_attempts = max_attempts
      @initial_backoff = initial_backoff
      @max_backoff = max_backoff
      @budget = budget
      @budget_refill = budget_refill
    end

    # Seconds to wait after the failed attempt (1, 2, ...), or nil to give up. No clock and no chance in here:
    # remaining is the time until the deadline in seconds, uniform in [0, 1) is the jitter.
    def delay(attempt:, pushback:, remaining:, uniform:)
      return nil if attempt >= max_attempts

      wait = pushback ? parse(pushback) : backoff(attempt, uniform)
      wait if wait && wait < remaining
    end

    # One attempt.
    NEVER = new(max_attempts: 1)

    private

    def backoff(attempt, uniform)
      uniform * [@initial_backoff * (2.0**(attempt - 1)), @max_backoff].min
    end

    def parse(pushback)
      pushback.match?(/\A\d{1,9}\z/) ? pushback.to_i / 1000.0 : nil
    end
  end
end
