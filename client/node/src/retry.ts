import { setTimeout as sleep } from "node:timers/promises";
import { status } from "@grpc/grpc-js";
import { SamplerdError } from "./errors.js";

/** How often, and after how long, a call is tried again. Only calls without side effects are. */
export interface RetryPolicy {
  /** Attempts in all; 1: never again. */
  readonly maxAttempts: number;
  /** Upper end of the first wait in milliseconds; each wait is uniform from 0 to its upper end (full jitter). */
  readonly initialBackoffMs: number;
  /** Upper end of any wait. */
  readonly maxBackoffMs: number;
}

export const DEFAULT_RETRY: RetryPolicy = { maxAttempts: 4, initialBackoffMs: 50, maxBackoffMs: 2000 };

/**
 * Gives the milliseconds to wait before the next attempt, or undefined if there is to be none.
 *
 * @param attempt how many there have been, from 1.
 * @param random uniform in [0, 1).
 */
export function waitBefore(
  policy: RetryPolicy,
  attempt: number,
  error: unknown,
  random: () => number = Math.random,
): number | undefined {
  if (!(error instanceof SamplerdError) || !error.isRetryable || attempt >= policy.maxAttempts) return undefined;
  const most = Math.min(policy.maxBackoffMs, policy.initialBackoffMs * 2 ** (attempt - 1));
  return error.pushbackMs ?? random() * most;
}

/** Calls until it works, is for good, or would be too late. */
export async function withRetries<T>(
  call: () => Promise<T>,
  policy: RetryPolicy,
  deadline: number,
  signal: AbortSignal | undefined,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await call();
    } catch (error) {
      const wait = waitBefore(policy, attempt, error);
      if (wait === undefined || Date.now() + wait >= deadline) throw error;
      await pause(wait, signal);
    }
  }
}

async function pause(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  try {
    // One more: timers may fire a fraction of a millisecond early.
    await sleep(milliseconds > 0 ? Math.ceil(milliseconds) + 1 : 0, undefined, signal === undefined ? {} : { signal });
  } catch {
    throw new SamplerdError(status.CANCELLED, "the call was cancelled while it waited to be tried again");
  }
}
