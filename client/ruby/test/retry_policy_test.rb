# frozen_string_literal: true

require "helper"

class RetryPolicyTest < Minitest::Test
  def delay(attempt, pushback: nil, remaining: 3600.0, uniform: 0.5, policy: Samplerd::RetryPolicy.new)
    policy.delay(attempt: attempt, pushback: pushback, remaining: remaining, uniform: uniform)
  end

  def test_backoff_doubles_up_to_two_seconds
    assert_in_delta 0.025, delay(1)
    assert_in_delta 0.1, delay(3)
    assert_in_delta 1.0, delay(4000, policy: Samplerd::RetryPolicy.new(max_attempts: 5000))
    assert_equal 0.0, delay(1, uniform: 0.0)
  end

  def test_pushback_is_obeyed
    assert_equal 0.1, delay(1, pushback: "100")
    assert_equal 0.0, delay(1, pushback: "0")
    ["-1", "soon", "", "1.5", "99999999999"].each { |never| assert_nil delay(1, pushback: never) }
  end

  def test_gives_up
    assert delay(3, pushback: "1")
    assert_nil delay(4, pushback: "1")
    assert_nil delay(1, pushback: "100", remaining: 0.1)
    assert_nil delay(1, policy: Samplerd::RetryPolicy::NEVER)
  end

  def test_budget_bounds_retries_and_successes_give_some_back
    budget = Samplerd::RetryBudget.new(Samplerd::RetryPolicy.new(budget: 2, budget_refill: 0.5))
    assert_equal [true, true, false], Array.new(3) { budget.withdraw }
    budget.deposit
    refute budget.withdraw
    budget.deposit
    assert budget.withdraw
    10.times { budget.deposit }
    assert_equal [true, true, false], Array.new(3) { budget.withdraw }
  end

  def test_numbers_are_checked
    assert_raises(ArgumentError) { Samplerd::RetryPolicy.new(budget: -1) }
    assert_raises(ArgumentError) { Samplerd::RetryPolicy.new(max_attempts: 0) }
    assert_raises(ArgumentError) { Samplerd::RetryPolicy.new(initial_backoff: 3) }
  end
end
