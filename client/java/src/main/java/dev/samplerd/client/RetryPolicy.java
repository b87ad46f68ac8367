package dev.samplerd.client;

import java.time.Duration;
import java.util.Optional;

/**
 * How often, and after how long, a call is tried again.
 *
 * <p>Only RESOURCE_EXHAUSTED and UNAVAILABLE are, and CANCELLED that the caller did not ask for, as of a server that ends
 * its connections; never past the deadline. Where the server says when to come back
 * (the trailer {@code grpc-retry-pushback-ms}), that is when; a hint that is negative or no number means never. Where it
 * does not, the wait is uniform between 0 and an upper end that doubles with each attempt (full jitter).
 *
 * @param maxAttempts attempts in all; 1 means never again
 * @param initialBackoff upper end of the first wait
 * @param maxBackoff upper end of the longest wait
 * @param budget retries that a client may make in a burst, over all its calls; each uses up one
 * @param budgetRefill retries that each successful call gives back: with 0.1, at most one for ten such calls in the long run
 */
public record RetryPolicy(
    int maxAttempts, Duration initialBackoff, Duration maxBackoff, double budget, double budgetRefill) {
  /** Four attempts; waits of at most 50 ms, 100 ms, ... 2 s. */
  public static final RetryPolicy DEFAULT = new RetryPolicy(4, Duration.ofMillis(50), Duration.ofSeconds(2));

  /** One attempt. */
  public static final RetryPolicy NEVER = new RetryPolicy(1, Duration.ZERO, Duration.ZERO);

  /**
   * Checks the numbers.
   *
   * @param maxAttempts attempts in all; 1 means never again
   * @param initialBackoff upper end of the first wait
   * @param maxBackoff upper end of the longest wait
   * @param budget retries that a client may make in a burst
   * @param budgetRefill retries that each successful call gives back
   * @throws IllegalArgumentException unless maxAttempts is at least 1 and 0 is at most initialBackoff, and that at most
   *     maxBackoff, and budget and budgetRefill are at least 0
   */
  public RetryPolicy {
    if (maxAttempts < 1) {
      throw new IllegalArgumentException("maxAttempts must be at least 1, got " + maxAttempts);
    }
    if (initialBackoff.isNegative() || initialBackoff.compareTo(maxBackoff) > 0) {
      throw new IllegalArgumentException("expected 0 <= initialBackoff <= maxBackoff");
    }
    if (!(budget >= 0 && budgetRefill >= 0)) {
      throw new IllegalArgumentException("expected budget >= 0, budgetRefill >= 0");
    }
  }

  /**
   * With the default budget: 20 retries, a tenth of one given back by each success.
   *
   * @param maxAttempts attempts in all; 1 means never again
   * @param initialBackoff upper end of the first wait
   * @param maxBackoff upper end of the longest wait
   */
  public RetryPolicy(int maxAttempts, Duration initialBackoff, Duration maxBackoff) {
    this(maxAttempts, initialBackoff, maxBackoff, 20, 0.1);
  }

  /**
   * Decides what follows a failed attempt. No clock and no chance in here: both are arguments.
   *
   * @param attempt the number of the attempt that failed, from 1
   * @param isRetryable whether its status is one to try again after
   * @param pushback the trailer {@code grpc-retry-pushback-ms} as it came, or null
   * @param remainingNanos time left until the deadline
   * @param uniform the jitter, in [0, 1)
   * @return how long to wait before the next attempt, in nanoseconds; empty: give up
   */
  Optional<Long> nextDelayNanos(
      int attempt, boolean isRetryable, String pushback, long remainingNanos, double uniform) {
    if (!isRetryable || attempt >= maxAttempts) {
      return Optional.empty();
    }
    Optional<Long> delay =
        pushback == null ? Optional.of(backoffNanos(attempt, uniform)) : parseNanos(pushback);
    return delay.filter(nanos -> nanos < remainingNanos);
  }

  private long backoffNanos(int attempt, double uniform) {
    double end = initialBackoff.toNanos() * Math.pow(2, attempt - 1); // an overflow is infinite, and cut below
    return (long) (uniform * Math.min(end, maxBackoff.toNanos()));
  }

  private static Optional<Long> parseNanos(String pushbackMs) {
    try {
      int millis = Integer.parseInt(pushbackMs);
      return millis < 0 ? Optional.empty() : Optional.of(millis * 1_000_000L);
    } catch (NumberFormatException error) {
      return Optional.empty();
    }
  }
}
