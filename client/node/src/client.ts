import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import {
  create,
  type DescMethod,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { type Client, credentials, Metadata, type ServiceError } from "@grpc/grpc-js";
import {
  type SampleRequest,
  SampleRequestSchema,
  type SampleResponse,
  SamplerService,
} from "#proto/samplerd/v1/sampler_pb.js";
import { chunksOf, Replies, type SampleChunk } from "./chunks.js";
import { errorFrom } from "./errors.js";
import { DEFAULT_RETRY, RetryBudget, type RetryPolicy, withRetries } from "./retry.js";
import { Servers } from "./servers.js";
import { SampleStream } from "./stream.js";

/** Room for replies of 60 million samples; grpc-js's own default, 4 MiB, holds one million. */
const DEFAULT_MAX_MESSAGE_BYTES = 256 * 1024 * 1024;

/** How to reach a server. */
export interface ClientOptions {
  /** TLS: whom to trust (PEM text or a path; absent: the system's), and who to be, where a server asks. */
  readonly tls?: { readonly ca?: string; readonly certificate?: string; readonly key?: string };
  /** Sent as `authorization: Bearer`; over plaintext only to this host itself. */
  readonly token?: string;
  /** Send the token over an unencrypted network too. */
  readonly allowPlaintextToken?: boolean;
  /** Milliseconds that a call with its retries may take. Default 30,000. */
  readonly timeoutMs?: number;
  readonly retry?: Partial<RetryPolicy>;
  /**
   * Connections to each server, on which calls take turns. Default 1, which all clients of a process share. A server with
   * several workers gives a connection to one of them.
   */
  readonly connections?: number;
  /**
   * Sent with every call, by lower-case keys. Calls about an uploaded distribution carry its name as
   * `x-samplerd-distribution` in any case, by which a proxy can choose the server.
   */
  readonly metadata?: Readonly<Record<string, string>>;
  /** Largest reply that is taken, in bytes. Default 256 MiB. */
  readonly maxMessageBytes?: number;
}

/** How to make one call. */
export interface CallOptions {
  /** Milliseconds that it may take, with its retries. Default: the client's. */
  readonly timeoutMs?: number;
  /** Cancels it: the promise rejects with CANCELLED, and the server frees its work. */
  readonly signal?: AbortSignal;
}

type Init<M extends DescMethod> = MessageInitShape<M["input"]>;
type Reply<M extends DescMethod> = MessageShape<M["output"]>;

/** Connections to samplerd, made by the first calls. Close it when done. */
export class SamplerClient {
  readonly #servers: Servers;
  readonly #metadata = new Metadata();
  readonly #timeoutMs: number;
  readonly #retry: RetryPolicy;
  readonly #budget: RetryBudget;

  /**
   * @param target `host:port`, or `unix:/path`; or several of these, which get the calls in turn as long as they are
   * healthy: one that starts, drains or is gone gets none.
   * @throws Error a token would cross the network in plain text, a file cannot be read, or there is no target.
   */
  constructor(target: string | readonly string[], options: ClientOptions = {}) {
    const { tls, token, connections = 1 } = options;
    const targets = typeof target === "string" ? [target] : target;
    const areLocal = targets.every(isLocal);
    if (targets.length === 0) throw new Error("no servers were given");
    if (!Number.isInteger(connections) || connections < 1) throw new RangeError("connections must be at least 1");
    if (token !== undefined && tls === undefined && !areLocal && options.allowPlaintextToken !== true) {
      throw new Error(`the token would cross the network to ${target} in plain text; give tls, or allowPlaintextToken`);
    }
    if (token !== undefined) this.#metadata.set("authorization", `Bearer ${token}`);
    for (const [key, value] of Object.entries(options.metadata ?? {})) this.#metadata.set(key, value);
    // All callers of a Unix socket have one address: by this name the server gives each its own fair share.
    if (targets.some(isUnix)) this.#metadata.set("x-samplerd-client", randomBytes(8).toString("hex"));
    this.#timeoutMs = options.timeoutMs ?? 30_000;
    this.#retry = { ...DEFAULT_RETRY, ...options.retry };
    this.#budget = new RetryBudget(this.#retry);
    const secure = tls && credentials.createSsl(pem(tls.ca), pem(tls.key), pem(tls.certificate));
    this.#servers = new Servers(targets, connections, secure ?? credentials.createInsecure(), {
      "grpc.max_receive_message_length": options.maxMessageBytes ?? DEFAULT_MAX_MESSAGE_BYTES,
      "grpc.max_send_message_length": -1,
      "grpc.enable_retries": 0, // ours know the deadline and the pushback
      // A frozen server keeps its connections and says nothing: while calls are in flight, it is asked whether it is there.
      "grpc.keepalive_time_ms": 5_000,
      "grpc.keepalive_timeout_ms": 10_000,
      // A proxy that the environment names for the world outside cannot reach this machine's own addresses.
      ...(areLocal ? { "grpc.enable_http_proxy": 0 } : {}),
    });
  }

  /**
   * Draws from every row of a request. Rows of float arrays: `tensor` makes them.
   *
   * @throws SamplerdError the call failed; a row that failed alone is in `rowErrors`, with samples of -1.
   */
  async sample(request: Init<typeof SamplerService.method.sample>, options: CallOptions = {}): Promise<SampleResponse> {
    return await this.call(SamplerService.method.sample, request, options);
  }

  /**
   * Draws any number of samples from an uploaded distribution in bounded memory, and gives the parts in order. The server
   * draws as they are taken; leaving the loop ends the call, and so does the signal.
   *
   * `timeoutMs` bounds the wait for each part, for the first one with all attempts: until it comes the call is tried again
   * as others are, and not after it. What was broken off can be continued with the same seed and, for one row, a
   * `drawOffset` that is larger by the samples taken.
   *
   * @throws SamplerdError NOT_FOUND: there is no such distribution; DEADLINE_EXCEEDED: a part took too long; UNAVAILABLE:
   * the call ended before the last part; or what the server refuses.
   */
  async *drawChunks(
    request: Init<typeof SamplerService.method.sampleDistribution>,
    options: CallOptions = {},
  ): AsyncGenerator<SampleChunk, void, undefined> {
    const method = SamplerService.method.sampleDistribution;
    const waitMs = options.timeoutMs ?? this.#timeoutMs;
    const deadline = Date.now() + waitMs;
    const message = create(method.input, request);
    const attempt = async () => {
      const client = await this.#servers.next(deadline, options.signal);
      const call = client.makeServerStreamRequest<SampleRequest, SampleResponse>(
        `/${method.parent.typeName}/${method.name}`,
        (asked) => bytesOf(toBinary(method.input, asked)),
        (bytes) => fromBinary(method.output, bytes),
        message,
        this.#about(message),
      );
      const replies = new Replies(call, options.signal);
      try {
        return { replies, first: await replies.next(deadline - Date.now()) };
      } catch (error) {
        replies.close();
        throw error;
      }
    };
    const { replies, first } = await withRetries(attempt, this.#retry, this.#budget, deadline, options.signal);
    yield* chunksOf(replies, first, waitMs);
  }

  /**
   * Accepts or corrects the drafted tokens of a sequence (speculative decoding): a chain, or a tree with `parents`.
   *
   * @throws SamplerdError the call failed; a target row that cannot be drawn from is in `rowErrors`.
   */
  async verifyDraft(
    request: Init<typeof SamplerService.method.verifyDraft>,
    options: CallOptions = {},
  ): Promise<Reply<typeof SamplerService.method.verifyDraft>> {
    return await this.call(SamplerService.method.verifyDraft, request, options);
  }

  /** Says what the server is, can do, and where its limits are. */
  async serverInfo(options: CallOptions = {}): Promise<Reply<typeof SamplerService.method.getServerInfo>> {
    return await this.call(SamplerService.method.getServerInfo, {}, options);
  }

  /**
   * Calls any unary method of the contract: `client.call(SamplerService.method.createDistribution, {...})`. Those with side
   * effects are never tried again.
   */
  async call<M extends DescMethod>(method: M, request: Init<M>, options: CallOptions = {}): Promise<Reply<M>> {
    const deadline = Date.now() + (options.timeoutMs ?? this.#timeoutMs);
    const message = create(method.input, request as MessageInitShape<M["input"]>);
    const policy = method.idempotency === 1 ? this.#retry : { ...this.#retry, maxAttempts: 1 }; // 1: NO_SIDE_EFFECTS
    return await withRetries(
      async () => {
        const client = await this.#servers.next(deadline, options.signal);
        return await this.#attempt(client, method, message as MessageShape<M["input"]>, deadline, options.signal);
      },
      policy,
      this.#budget,
      deadline,
      options.signal,
    );
  }

  #attempt<M extends DescMethod>(
    client: Client,
    method: M,
    message: MessageShape<M["input"]>,
    deadline: number,
    signal: AbortSignal | undefined,
  ): Promise<Reply<M>> {
    return new Promise((resolve, reject) => {
      const call = client.makeUnaryRequest(
        `/${method.parent.typeName}/${method.name}`,
        (asked: MessageShape<M["input"]>) => bytesOf(toBinary(method.input, asked)),
        (bytes: Buffer) => fromBinary(method.output, bytes) as Reply<M>,
        message,
        this.#about(message),
        { deadline },
        (error: ServiceError | null, reply?: Reply<M>) => {
          signal?.removeEventListener("abort", cancel);
          if (error !== null) reject(errorFrom(error));
          else resolve(reply as Reply<M>);
        },
      );
      const cancel = () => call.cancel();
      signal?.addEventListener("abort", cancel, { once: true });
    });
  }

  /** Gives the metadata of a call: the client's, and the name of the distribution that it is about, if any. */
  #about(message: object): Metadata {
    const { source, name } = message as { source?: { case?: string; value?: unknown }; name?: string };
    const about = source?.case === "distribution" ? String(source.value) : name;
    if (!about || !/^[\x21-\x7e]+$/.test(about)) return this.#metadata; // the server refuses any other name
    const metadata = this.#metadata.clone();
    metadata.set("x-samplerd-distribution", about);
    return metadata;
  }

  /** Opens a stream. Of `maxInFlight` requests in flight, the next waits. Its deadline is for the whole stream. */
  stream(options: CallOptions & { readonly maxInFlight?: number } = {}): SampleStream {
    const method = SamplerService.method.sampleStream;
    const call = this.#servers.now().makeBidiStreamRequest<SampleRequest, SampleResponse>(
      `/${method.parent.typeName}/${method.name}`,
      (asked) => bytesOf(toBinary(SampleRequestSchema, asked)),
      (bytes) => fromBinary(method.output, bytes),
      this.#metadata,
      options.timeoutMs === undefined ? {} : { deadline: Date.now() + options.timeoutMs },
    );
    const cancel = () => call.cancel();
    options.signal?.addEventListener("abort", cancel, { once: true });
    return new SampleStream(call, options.maxInFlight ?? 256);
  }

  /** Closes the connections; calls in flight still end. */
  close(): void {
    this.#servers.close();
  }
}

/** Says whether nobody between can read what is sent. */
export function isLocal(target: string): boolean {
  const host = target
    .replace(/^(dns:|ipv[46]:)\/*/, "")
    .replace(/:\d+$/, "")
    .replace(/^\[|\]$/g, "");
  return isUnix(target) || host === "localhost" || host === "::1" || /^127(\.\d+){3}$/.test(host);
}

function isUnix(target: string): boolean {
  return target.startsWith("unix:");
}

/** Views bytes as a Buffer, without a copy. */
function bytesOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function pem(text: string | undefined): Buffer | null {
  if (text === undefined) return null;
  return text.includes("-----BEGIN") ? Buffer.from(text) : readFileSync(text);
}
