import { type ChannelCredentials, type ChannelOptions, Client, type ClientReadableStream, status } from "@grpc/grpc-js";
import { SamplerdError } from "./errors.js";

const SERVICE = Buffer.from("samplerd.v1.SamplerService");
const WATCH = "/grpc.health.v1.Health/Watch";
/** A HealthCheckRequest: its one field, the name of the service. */
const REQUEST = Buffer.concat([Buffer.from([0x0a, SERVICE.length]), SERVICE]);
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 1000;

/** What is known of a server over one connection. */
type Health = "unknown" | "serving" | "not serving";

/**
 * The connections of a client, on which its calls take turns. Those to one server are used as they are; those to several are
 * watched (grpc.health.v1), as grpc-js does not do that itself: one that starts, drains or is gone gets no calls.
 */
export class Servers {
  readonly #connections: Connection[] = [];
  #turn = 0;
  #waiting: (() => void)[] = [];
  #isClosed = false;

  /** @param number of connections to each target. */
  constructor(targets: readonly string[], number: number, credentials: ChannelCredentials, options: ChannelOptions) {
    const wake = () => {
      for (const resolve of this.#waiting.splice(0)) resolve();
    };
    // Without it, all channels of a process to one address share a connection.
    const own = number > 1 ? { ...options, "grpc.use_local_subchannel_pool": 1 } : options;
    for (let i = 0; i < number; i++) {
      for (const target of targets) {
        const connection = new Connection(new Client(target, credentials, own), wake);
        this.#connections.push(connection);
        if (targets.length > 1) connection.watch();
        else connection.health = "serving";
      }
    }
  }

  /**
   * Gives the connection whose turn it is, among those that serve. Waits while none does and some have not said.
   *
   * @throws SamplerdError no server serves, it is not known in time, or the signal cancels the wait.
   */
  async next(deadline: number, signal?: AbortSignal): Promise<Client> {
    for (;;) {
      if (signal?.aborted) throw new SamplerdError(status.CANCELLED, "the call was cancelled before it began");
      const connection = this.#turnOf((one) => one.health === "serving");
      if (connection !== undefined) return connection.client;
      if (!this.#connections.some((one) => one.health === "unknown") || this.#isClosed) {
        throw new SamplerdError(status.UNAVAILABLE, "none of the servers is serving");
      }
      if (!(await this.#changes(deadline, signal))) {
        throw new SamplerdError(status.DEADLINE_EXCEEDED, "no server said in time that it is serving");
      }
    }
  }

  /** Gives the connection whose turn it is, among those that serve, or among all where that is not known of any. */
  now(): Client {
    const connection = this.#turnOf((one) => one.health === "serving") ?? this.#turnOf(() => true);
    return (connection as Connection).client;
  }

  /** Closes all connections; calls in flight still end. */
  close(): void {
    this.#isClosed = true;
    for (const connection of this.#connections) connection.close();
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  #turnOf(isFit: (connection: Connection) => boolean): Connection | undefined {
    for (let i = 0; i < this.#connections.length; i++) {
      const connection = this.#connections[this.#turn++ % this.#connections.length] as Connection;
      if (isFit(connection)) return connection;
    }
    return undefined;
  }

  /** Waits for news of any server, or of the signal; false: none came before the deadline. */
  #changes(deadline: number, signal: AbortSignal | undefined): Promise<boolean> {
    return new Promise((resolve) => {
      const wake = () => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", wake);
        resolve(true);
      };
      const timer = setTimeout(() => resolve(false), Math.min(Math.max(deadline - Date.now(), 0), 0x7fffffff));
      signal?.addEventListener("abort", wake, { once: true });
      this.#waiting.push(wake);
    });
  }
}

class Connection {
  health: Health = "unknown";
  #call: ClientReadableStream<boolean> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #pauseMs = FIRST_PAUSE_MS;
  #isClosed = false;

  constructor(
    readonly client: Client,
    private readonly changed: () => void,
  ) {}

  /** Asks the server to say how it is, and again when it is gone. */
  watch(): void {
    const call = this.client.makeServerStreamRequest(
      WATCH,
      (request: Buffer) => request,
      (reply: Buffer) => reply.includes(Buffer.from([0x08, 0x01])), // field 1 is SERVING
      REQUEST,
    );
    this.#call = call;
    call.on("data", (isServing: boolean) => {
      this.#pauseMs = FIRST_PAUSE_MS;
      this.#become(isServing ? "serving" : "not serving");
    });
    call.on("error", () => {}); // the status says it
    call.on("status", ({ code }) => {
      if (this.#isClosed) return;
      // As gRPC has it: a server that knows no health is taken for healthy, as long as it is there.
      this.#become(code === status.UNIMPLEMENTED ? "serving" : "not serving");
      this.#timer = setTimeout(() => this.watch(), this.#pauseMs * (0.5 + Math.random() / 2)).unref();
      this.#pauseMs = Math.min(this.#pauseMs * 2, LONGEST_PAUSE_MS);
    });
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#call?.cancel();
    this.client.close();
  }

  #become(health: Health): void {
    this.health = health;
    this.changed();
  }
}
