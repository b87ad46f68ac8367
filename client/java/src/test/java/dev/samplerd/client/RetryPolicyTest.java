package dev.samplerd.client;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import java.time.Duration;
import java.util.Optional;
import org.junit.Test;

/** When to ask again. */
public class RetryPolicyTest {
  private static final long MILLI = 1_000_000L;
  private static final long HOUR = 3_600_000 * MILLI;

  private static Optional<Long> next(int attempt, String pushback, long remaining, double uniform) {
    return RetryPolicy.DEFAULT.nextDelayNanos(attempt, true, pushback, remaining, uniform);
  }

  /** Uniform below an end that doubles, up to two seconds. */
  @Test
  public void backoff() {
    assertEquals(Optional.of(0L), next(1, null, HOUR, 0));
    assertEquals(Optional.of(25 * MILLI), next(1, null, HOUR, 0.5));
    assertEquals(Optional.of(100 * MILLI), next(3, null, HOUR, 0.5));
    RetryPolicy patient = new RetryPolicy(5000, Duration.ofMillis(50), Duration.ofSeconds(2));
    assertEquals(Optional.of(1000 * MILLI), patient.nextDelayNanos(4000, true, null, HOUR, 0.5));
  }

  /** The server's hint is obeyed exactly; negative or no number: never. */
  @Test
  public void pushback() {
    assertEquals(Optional.of(100 * MILLI), next(1, "100", HOUR, 0.9));
    assertEquals(Optional.of(0L), next(1, "0", HOUR, 0.9));
    for (String never : new String[] {"-1", "soon", "", "1.5", "99999999999"}) {
      assertEquals(Optional.empty(), next(1, never, HOUR, 0.9));
    }
  }

  /** Four attempts, only where it may help, and never past the deadline. */
  @Test
  public void gaveUp() {
    assertTrue(next(3, "1", HOUR, 0).isPresent());
    assertFalse(next(4, "1", HOUR, 0).isPresent());
    assertFalse(next(1, "100", 100 * MILLI, 0).isPresent());
    assertFalse(RetryPolicy.DEFAULT.nextDelayNanos(1, false, "1", HOUR, 0).isPresent());
    assertFalse(RetryPolicy.NEVER.nextDelayNanos(1, true, null, HOUR, 0).isPresent());
  }

  /** Retries of all calls are bounded; successes give some back, up to the budget. */
  @Test
  public void budget() {
    RetryBudget budget = new RetryBudget(new RetryPolicy(4, Duration.ZERO, Duration.ZERO, 2, 0.5));
    assertTrue(budget.withdraw() && budget.withdraw());
    assertFalse(budget.withdraw());
    budget.deposit();
    assertFalse(budget.withdraw());
    budget.deposit();
    assertTrue(budget.withdraw());
    for (int i = 0; i < 10; i++) {
      budget.deposit();
    }
    assertTrue(budget.withdraw() && budget.withdraw());
    assertFalse(budget.withdraw());
  }

  /** Numbers that make no sense. */
  @Test
  public void checked() {
    assertThrows(IllegalArgumentException.class, () -> new RetryPolicy(0, Duration.ZERO, Duration.ZERO));
    assertThrows(
        IllegalArgumentException.class, () -> new RetryPolicy(2, Duration.ofSeconds(2), Duration.ofSeconds(1)));
    assertThrows(
        IllegalArgumentException.class, () -> new RetryPolicy(2, Duration.ZERO, Duration.ZERO, Double.NaN, 0));
  }
}
