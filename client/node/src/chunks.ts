import { type ClientReadableStream, type ServiceError, status } from "@grpc/grpc-js";
import type { SampleResponse } from "#proto/samplerd/v1/sampler_pb.js";
import { fromRawSamples } from "./arrays.js";
import { errorFrom, SamplerdError } from "./errors.js";

/** The longest that a timer of Node.js waits. */
const LONGEST_WAIT_MS = 0x7fffffff;

/** A part of a large draw. */
export interface SampleChunk {
  /** Index of its first id in the row-major sequence of all rows x S ids. */
  readonly offset: number;
  /** The ids drawn, in whichever form they came. */
  readonly samples: Int32Array;
  /** All that came with them: `chunk` is its number, `seed` what was used, `final` says that it is the last. */
  readonly reply: SampleResponse;
}

/** The replies of a call, one by one. Close it when done. */
export class Replies {
  readonly #iterator: AsyncIterator<SampleResponse>;
  readonly #cancel = () => this.call.cancel();

  constructor(
    private readonly call: ClientReadableStream<SampleResponse>,
    private readonly signal: AbortSignal | undefined,
  ) {
    call.on("error", () => {}); // whoever waits for a reply is told, and a call that is left has nobody to tell
    this.#iterator = call[Symbol.asyncIterator]();
    signal?.addEventListener("abort", this.#cancel, { once: true });
  }

  /**
   * Gives the next reply; undefined after the last.
   *
   * @throws SamplerdError the call failed, or no reply came within this time, and then the call is over.
   */
  async next(waitMs: number): Promise<SampleResponse | undefined> {
    let isLate = false;
    const expire = () => {
      isLate = true;
      this.call.cancel();
    };
    const timer = setTimeout(expire, Math.min(Math.max(waitMs, 0), LONGEST_WAIT_MS));
    try {
      const { value, done } = await this.#iterator.next();
      return done ? undefined : value;
    } catch (error) {
      if (isLate) throw new SamplerdError(status.DEADLINE_EXCEEDED, "no chunk came in time");
      throw errorFrom(error as ServiceError);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Ends the call, if it has not ended. */
  close(): void {
    this.signal?.removeEventListener("abort", this.#cancel);
    this.call.cancel();
  }
}

/** Gives the chunks that begin with this reply, each of which is waited for this long; closes the replies. */
export async function* chunksOf(
  replies: Replies,
  first: SampleResponse | undefined,
  waitMs: number,
): AsyncGenerator<SampleChunk, void, undefined> {
  try {
    let offset = 0;
    for (let reply = first; reply !== undefined; reply = await replies.next(waitMs)) {
      const samples = reply.rawSamples.length > 0 ? fromRawSamples(reply.rawSamples) : Int32Array.from(reply.samples);
      yield { offset, samples, reply };
      if (reply.final) {
        await replies.next(waitMs).catch(() => {}); // lets the call end by itself; how it does no longer matters
        return;
      }
      offset += samples.length;
    }
    throw new SamplerdError(status.UNAVAILABLE, "the server ended the call before the last chunk");
  } finally {
    replies.close();
  }
}
