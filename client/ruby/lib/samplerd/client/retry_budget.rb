# frozen_string_literal: true

module Samplerd
  # Bounds the retries of all calls of a client, so that a fleet of clients cannot turn an overload into a storm.
  class RetryBudget
    def initialize(policy)
      @policy = policy
      @retries = policy.budget
      @mutex = Mutex.new
    end

    # Counts a call that succeeded.
    def deposit
      @mutex.synchronize { @retries = [@policy.budget, @retries + @policy.budget_refill].min }
    end

    # Uses up one retry; false if none is left.
    def withdraw
      @mutex.synchronize do
        return false if @retries < 1

        @retries -= 1
        true
      end
    end
  end
end
