import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type ClientDuplexStream, type ServiceError, status } from "@grpc/grpc-js";
import { type SampleRequest, SampleRequestSchema, type SampleResponse } from "#proto/samplerd/v1/sampler_pb.js";
import { errorFrom, errorFromStatus, SamplerdError } from "./errors.js";

interface Waiting {
  readonly chunks: SampleResponse[];
  readonly resolve: (chunks: SampleResponse[]) => void;
  readonly reject: (error: SamplerdError) => void;
}

/**
 * Many requests over one call, in flight at once and matched by id. A request that fails rejects its own promise, and
 * the stream goes on; a stream that breaks rejects all of them, and none is tried again.
 */
export class SampleStream {
  readonly #waiting = new Map<bigint, Waiting>();
  readonly #queue: (() => void)[] = [];
  #nextId = 1n;
  #error: SamplerdError | undefined;

  /** @internal made by `SamplerClient.stream`. */
  constructor(
    private readonly call: ClientDuplexStream<SampleRequest, SampleResponse>,
    private readonly maxInFlight: number,
  ) {
    call.on("data", (reply: SampleResponse) => this.#take(reply));
    call.on("error", (error: ServiceError) => this.#end(errorFrom(error)));
    call.on("end", () => this.#end(new SamplerdError(status.CANCELLED, "the stream has ended")));
  }

  /**
   * Sends a request and gives its reply; a large draw's chunks are joined. Its id is set here. Waits while too many are
   * in flight, which is what keeps a fast caller from filling the memory.
   *
   * @throws SamplerdError the request failed, or the stream broke.
   */
  async sample(request: MessageInitShape<typeof SampleRequestSchema>): Promise<SampleResponse> {
    return joined(await this.chunks(request));
  }

  /** As `sample`, but gives the replies as they came. */
  async chunks(request: MessageInitShape<typeof SampleRequestSchema>): Promise<SampleResponse[]> {
    while (this.#error === undefined && this.#waiting.size >= this.maxInFlight) {
      await new Promise<void>((resolve) => this.#queue.push(resolve));
    }
    if (this.#error !== undefined) throw this.#error;
    const id = this.#nextId++;
    const message = create(SampleRequestSchema, { ...request, id } as MessageInitShape<typeof SampleRequestSchema>);
    return await new Promise((resolve, reject) => {
      this.#waiting.set(id, { chunks: [], resolve, reject });
      this.call.write(message);
    });
  }

  /** Says that no request will follow; resolves once everything in flight is answered. */
  async close(): Promise<void> {
    const over = new Promise<void>((resolve) => this.call.once("close", resolve).once("end", resolve));
    this.call.end();
    if (this.#error === undefined) await over;
  }

  /** Gives up what is in flight: its promises reject with CANCELLED, and the server frees its work. */
  cancel(): void {
    this.call.cancel();
  }

  #take(reply: SampleResponse): void {
    const waiting = this.#waiting.get(reply.id);
    if (waiting === undefined) return;
    waiting.chunks.push(reply);
    if (reply.error !== undefined) {
      this.#leave(reply.id);
      waiting.reject(errorFromStatus(reply.error));
    } else if (reply.final) {
      this.#leave(reply.id);
      waiting.resolve(waiting.chunks);
    }
  }

  #leave(id: bigint): void {
    this.#waiting.delete(id);
    this.#queue.shift()?.();
  }

  #end(error: SamplerdError): void {
    this.#error ??= error;
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
    for (const wake of this.#queue.splice(0)) wake();
  }
}

function joined(chunks: SampleResponse[]): SampleResponse {
  const [first, ...others] = chunks as [SampleResponse, ...SampleResponse[]];
  for (const other of others) {
    first.samples.push(...other.samples);
    first.ranks.push(...other.ranks);
    first.adaptiveWeightedSum.push(...other.adaptiveWeightedSum);
    first.adaptiveTotalWeight.push(...other.adaptiveTotalWeight);
    other.logprobs.forEach((own, i) => {
      first.logprobs[i]?.samples.push(...own.samples);
    });
    first.final = other.final;
  }
  const raw = chunks.map((chunk) => chunk.rawSamples);
  if (others.length > 0 && raw.some((bytes) => bytes.length > 0)) first.rawSamples = Buffer.concat(raw);
  for (const [i, own] of others.length > 0 ? first.logprobs.entries() : []) {
    own.rawSamples = Buffer.concat(chunks.map((chunk) => chunk.logprobs[i]?.rawSamples ?? new Uint8Array()));
  }
  return first;
}
