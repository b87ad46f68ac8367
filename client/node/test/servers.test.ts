import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { test } from "node:test";
import { Server, ServerCredentials, type ServerWritableStream, status } from "@grpc/grpc-js";
import { SamplerClient, SamplerdError } from "../src/index.js";
import { DEFAULT_RETRY, RetryBudget, withRetries } from "../src/retry.js";

const bytes = (value: Buffer) => value;
const serving = (is: boolean) => Buffer.from([0x08, is ? 1 : 2]);

/** Starts a server that answers GetServerInfo, counts, and says of its health what `tell` is asked to. */
async function started(first: boolean) {
  const watchers: ServerWritableStream<Buffer, Buffer>[] = [];
  const counted = { calls: 0, health: first, tell: (_: boolean) => {} };
  counted.tell = (is) => {
    counted.health = is;
    for (const watcher of watchers) watcher.write(serving(is));
  };
  const method = { requestStream: false, requestSerialize: bytes, requestDeserialize: bytes };
  const reply = { responseSerialize: bytes, responseDeserialize: bytes };
  const server = new Server();
  server.addService(
    {
      Watch: { path: "/grpc.health.v1.Health/Watch", responseStream: true, ...method, ...reply },
      GetServerInfo: { path: "/samplerd.v1.SamplerService/GetServerInfo", responseStream: false, ...method, ...reply },
    },
    {
      Watch: (call: ServerWritableStream<Buffer, Buffer>) => {
        assert.equal(call.request.subarray(2).toString(), "samplerd.v1.SamplerService");
        watchers.push(call);
        call.write(serving(counted.health));
      },
      GetServerInfo: (_: unknown, answer: (error: null, reply: Buffer) => void) => {
        counted.calls++;
        answer(null, Buffer.alloc(0));
      },
    },
  );
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  return { counted, target: `127.0.0.1:${port}`, stop: () => server.forceShutdown() };
}

test("a server that is not serving gets no calls until it is, and one that stops gets no more", async () => {
  const [one, two] = [await started(true), await started(false)];
  const client = new SamplerClient([one.target, two.target]);
  try {
    for (let i = 0; i < 10; i++) await client.serverInfo();
    assert.deepEqual([one.counted.calls, two.counted.calls], [10, 0]);
    two.counted.tell(true);
    while (two.counted.calls === 0) await client.serverInfo();
    one.stop();
    for (let i = 0; i < 10; i++) await client.serverInfo(); // those that meet the end are tried again
    two.counted.tell(false);
    for (;;) {
      const error = await client.serverInfo().catch((failed: unknown) => failed);
      if (error instanceof SamplerdError) {
        assert.equal(error.code, status.UNAVAILABLE);
        break;
      }
    }
  } finally {
    client.close();
    one.stop();
    two.stop();
  }
});

test("a call that waits for a server can be cancelled, and ends at its deadline", async () => {
  const sockets: Socket[] = [];
  const silent = createServer((socket) => sockets.push(socket)).listen(0, "127.0.0.1"); // takes connections, says nothing
  await once(silent, "listening");
  const target = `127.0.0.1:${(silent.address() as AddressInfo).port}`;
  const client = new SamplerClient([target, target]);
  try {
    const signal = AbortSignal.timeout(20);
    await assert.rejects(client.serverInfo({ signal, timeoutMs: 60_000 }), { code: status.CANCELLED });
    await assert.rejects(client.serverInfo({ timeoutMs: 20 }), { code: status.DEADLINE_EXCEEDED });
  } finally {
    client.close();
    silent.close();
    for (const socket of sockets) socket.destroy();
  }
});

test("what cannot be a client's servers is refused", () => {
  assert.throws(() => new SamplerClient([]), /no servers/);
  assert.throws(() => new SamplerClient("127.0.0.1:1", { connections: 0 }), RangeError);
  assert.throws(() => new SamplerClient(["127.0.0.1:1", "10.0.0.1:1"], { token: "t" }), /plain text/);
});

test("the budget bounds the retries of all calls, and successes give some back", async () => {
  const policy = { ...DEFAULT_RETRY, initialBackoffMs: 0, budget: 5, budgetRefill: 0.5 };
  const budget = new RetryBudget(policy);
  let calls = 0;
  const refused = () => {
    calls++;
    return Promise.reject(new SamplerdError(status.UNAVAILABLE, "gone"));
  };
  for (let i = 0; i < 10; i++) await assert.rejects(withRetries(refused, policy, budget, Infinity, undefined));
  assert.equal(calls, 10 + 5);
  for (let i = 0; i < 2; i++) await withRetries(() => Promise.resolve(7), policy, budget, Infinity, undefined);
  calls = 0;
  await assert.rejects(withRetries(refused, policy, budget, Infinity, undefined));
  assert.equal(calls, 2);
});
