import { setTimeout as sleep } from "node:timers/promises";
import { status } from "@grpc/grpc-js";
import { SamplerdError } from "./errors.js";

/**
 * How often, and after how long, a call is tried again. Only calls without side effects are: when the server is full or not
 * there, or when somebody other than the caller cancelled the call, as a server does that ends its connections.
 */
export interface RetryPolicy {
  /** Attempts in all; 1: never again. */
  readonly maxAttempts: number;
  /** Upper end of the first wait in milliseconds; each wait is uniform from 0 to its upper end (full jitter). */
  readonly initialBackoffMs: number;
  /** Upper end of any wait. */
  readonly maxBackoffMs: number;
  /** Retries that the client may make in a burst, over all its calls; each uses up one. */
  readonly budget: number;
  /** Retries that each successful call gives back: with 0.1, at most one for ten such calls in the long run. */
  readonly budgetRefill: number;
}

export const DEFAULT_RETRY: RetryPolicy = {
  maxAttempts: 4,
  initialBackoffMs: 50,
  maxBackoffMs: 2000,
  budget: 20,
  budgetRefill: 0.1,
};

/** Bounds the retries of all calls of a client, so that a fleet of clients cannot turn an overload into a storm. */
export class RetryBudget {
  readonly #policy: RetryPolicy;
  #retries: number;

  constructor(policy: RetryPolicy) {
    this.#policy = policy;
    this.#retries = policy.budget;
  }

  /** Counts a call that succeeded. */
  deposit(): void {
    this.#retries = Math.min(this.#policy.budget, this.#retries + this.#policy.budgetRefill);
  }

  /** Uses up one retry; false if none is left. */
  withdraw(): boolean {
    if (this.#retries < 1) return false;
    this.#retries--;
    return true;
  }
}

/**
 * Gives the milliseconds to wait before the next attempt, or undefined if there is to be none.
 *
 * @param attempt how many there have been, from 1.
 * @param random uniform in [0, 1).
 * @param isForeign whether somebody other than the caller cancelled it.
 */
export function waitBefore(
  policy: RetryPolicy,
  attempt: number,
  error: unknown,
  random: () => number = Math.random,
  isForeign = false,
): number | undefined {
  if (!(error instanceof SamplerdError) || attempt >= policy.maxAttempts) return undefined;
  if (!error.isRetryable && !isForeign) return undefined;
  const most = Math.min(policy.maxBackoffMs, policy.initialBackoffMs * 2 ** (attempt - 1));
  return error.pushbackMs ?? random() * most;
}

/** Calls until it works, is for good, or would be too late. */
export async function withRetries<T>(
  call: () => Promise<T>,
  policy: RetryPolicy,
  budget: RetryBudget,
  deadline: number,
  signal: AbortSignal | undefined,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      const result = await call();
      budget.deposit();
      return result;
    } catch (error) {
      const isCancelled = error instanceof SamplerdError && error.code === status.CANCELLED;
      const wait = waitBefore(policy, attempt, error, Math.random, isCancelled && !signal?.aborted);
      if (wait === undefined || Date.now() + wait >= deadline || !budget.withdraw()) throw error;
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
