package dev.samplerd.client;

/** Bounds the retries of all calls of a client, so that a fleet of clients cannot turn an overload into a storm. */
final class RetryBudget {
  private final RetryPolicy policy;
  private double retries;

  RetryBudget(RetryPolicy policy) {
    this.policy = policy;
    retries = policy.budget();
  }

  /** Counts a call that succeeded. */
  synchronized void deposit() {
    retries = Math.min(policy.budget(), retries + policy.budgetRefill());
  }

  /** Uses up one retry; false if none is left. */
  synchronized boolean withdraw() {
    if (retries < 1) {
      return false;
    }
    retries--;
    return true;
  }
}
