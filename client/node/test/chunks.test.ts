import assert from "node:assert/strict";
import { test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { Server, ServerCredentials, type ServerWritableStream, status } from "@grpc/grpc-js";
import { SampleResponseSchema, SamplerClient } from "../src/index.js";

type Call = ServerWritableStream<Buffer, Buffer>;

const bytes = (value: Buffer) => value;
const fast = { initialBackoffMs: 1, maxBackoffMs: 1 };
const from = (value: string) => ({ source: { case: "distribution", value } }) as const;

/** Lends a client of a server that answers large draws so; `number` counts its calls from 1. */
async function against(serve: (call: Call, number: number) => void, use: (client: SamplerClient) => Promise<void>) {
  let calls = 0;
  const server = new Server();
  const method = { requestStream: false, requestSerialize: bytes, requestDeserialize: bytes } as const;
  const reply = { responseStream: true, responseSerialize: bytes, responseDeserialize: bytes } as const;
  server.addService(
    { Draw: { path: "/samplerd.v1.SamplerService/SampleDistribution", ...method, ...reply } },
    { Draw: (call: Call) => serve(call, ++calls) },
  );
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  const client = new SamplerClient(`127.0.0.1:${port}`, { retry: fast });
  try {
    await use(client);
  } finally {
    client.close();
    server.forceShutdown();
  }
}

function write(call: Call, chunk: number): void {
  const reply = create(SampleResponseSchema, { samples: [chunk, 9], chunk, final: chunk === 2 });
  call.write(Buffer.from(toBinary(SampleResponseSchema, reply)));
}

const fail = (call: Call, code: status) => call.emit("error", { code, details: "no" });

test("chunks come in order, after refusals", async () => {
  let asked = 0;
  const serve = (call: Call, number: number) => {
    asked = number;
    if (number < 3) return fail(call, status.UNAVAILABLE);
    for (let chunk = 0; chunk < 3; chunk++) write(call, chunk);
    call.end();
    return undefined;
  };
  await against(serve, async (client) => {
    const got: number[][] = [];
    for await (const { offset, samples } of client.drawChunks(from("d"))) got.push([offset, ...samples]);
    assert.deepEqual(got, [
      [0, 0, 9],
      [2, 1, 9],
      [4, 2, 9],
    ]);
    assert.equal(asked, 3);
  });
});

test("a draw that has begun is not tried again", async () => {
  for (const isCut of [true, false]) {
    let asked = 0;
    const serve = (call: Call, number: number) => {
      asked = number;
      write(call, 0);
      if (isCut) call.end();
      else fail(call, status.UNAVAILABLE);
    };
    await against(serve, async (client) => {
      const got: number[] = [];
      const draw = async () => {
        for await (const { reply } of client.drawChunks(from("d"))) got.push(reply.chunk);
      };
      await assert.rejects(draw(), { code: status.UNAVAILABLE });
      assert.deepEqual([got, asked], [[0], 1]);
    });
  }
});

test("a wait is bounded, and leaving or aborting ends the call", async () => {
  const ended: Promise<void>[] = [];
  const serve = (call: Call, number: number) => {
    ended.push(new Promise((resolve) => call.on("cancelled", resolve)));
    if (number > 1) write(call, 0);
  };
  await against(serve, async (client) => {
    const draw = async (options: object) => {
      for await (const _ of client.drawChunks(from("d"), options)); // until it fails
    };
    await assert.rejects(draw({ timeoutMs: 200 }), { code: status.DEADLINE_EXCEEDED });
    await assert.rejects(draw({ timeoutMs: 200 }), { code: status.DEADLINE_EXCEEDED });
    for await (const _ of client.drawChunks(from("d"))) break;
    const stop = new AbortController();
    const aborted = async () => {
      for await (const _ of client.drawChunks(from("d"), { signal: stop.signal })) stop.abort();
    };
    await assert.rejects(aborted(), { code: status.CANCELLED });
    await Promise.all(ended);
    assert.equal(ended.length, 4);
  });
});
