import { readFileSync } from "node:fs";
import {
  create,
  type DescMethod,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { Client, credentials, Metadata, type ServiceError, status } from "@grpc/grpc-js";
import {
  type SampleRequest,
  SampleRequestSchema,
  type SampleResponse,
  SamplerService,
} from "#proto/samplerd/v1/sampler_pb.js";
import { errorFrom, SamplerdError } from "./errors.js";
import { DEFAULT_RETRY, type RetryPolicy, withRetries } from "./retry.js";
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

/** A connection to samplerd, made by its first call. Close it when done. */
export class SamplerClient {
  readonly #client: Client;
  readonly #metadata = new Metadata();
  readonly #timeoutMs: number;
  readonly #retry: RetryPolicy;

  /**
   * @param target `host:port`, or `unix:/path`.
   * @throws Error a token would cross the network in plain text, or a file cannot be read.
   */
  constructor(target: string, options: ClientOptions = {}) {
    const { tls, token } = options;
    if (token !== undefined && tls === undefined && !isLocal(target) && options.allowPlaintextToken !== true) {
      throw new Error(`the token would cross the network to ${target} in plain text; give tls, or allowPlaintextToken`);
    }
    if (token !== undefined) this.#metadata.set("authorization", `Bearer ${token}`);
    this.#timeoutMs = options.timeoutMs ?? 30_000;
    this.#retry = { ...DEFAULT_RETRY, ...options.retry };
    const secure = tls && credentials.createSsl(pem(tls.ca), pem(tls.key), pem(tls.certificate));
    this.#client = new Client(target, secure ?? credentials.createInsecure(), {
      "grpc.max_receive_message_length": options.maxMessageBytes ?? DEFAULT_MAX_MESSAGE_BYTES,
      "grpc.max_send_message_length": -1,
      "grpc.enable_retries": 0, // ours know the deadline and the pushback
      "grpc.keepalive_time_ms": 30_000,
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
      () => this.#attempt(method, message as MessageShape<M["input"]>, deadline, options.signal),
      policy,
      deadline,
      options.signal,
    );
  }

  #attempt<M extends DescMethod>(
    method: M,
    message: MessageShape<M["input"]>,
    deadline: number,
    signal: AbortSignal | undefined,
  ): Promise<Reply<M>> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) {
        reject(new SamplerdError(status.CANCELLED, "the call was cancelled before it began"));
        return;
      }
      const call = this.#client.makeUnaryRequest(
        `/${method.parent.typeName}/${method.name}`,
        (asked: MessageShape<M["input"]>) => bytesOf(toBinary(method.input, asked)),
        (bytes: Buffer) => fromBinary(method.output, bytes) as Reply<M>,
        message,
        this.#metadata,
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

  /** Opens a stream. Of `maxInFlight` requests in flight, the next waits. Its deadline is for the whole stream. */
  stream(options: CallOptions & { readonly maxInFlight?: number } = {}): SampleStream {
    const method = SamplerService.method.sampleStream;
    const call = this.#client.makeBidiStreamRequest<SampleRequest, SampleResponse>(
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

  /** Closes the connection; calls in flight still end. */
  close(): void {
    this.#client.close();
  }
}

/** Says whether nobody between can read what is sent. */
export function isLocal(target: string): boolean {
  const host = target
    .replace(/^(dns:|ipv[46]:)\/*/, "")
    .replace(/:\d+$/, "")
    .replace(/^\[|\]$/g, "");
  return target.startsWith("unix:") || host === "localhost" || host === "::1" || /^127(\.\d+){3}$/.test(host);
}

/** Views bytes as a Buffer, without a copy. */
function bytesOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function pem(text: string | undefined): Buffer | null {
  if (text === undefined) return null;
  return text.includes("-----BEGIN") ? Buffer.from(text) : readFileSync(text);
}
