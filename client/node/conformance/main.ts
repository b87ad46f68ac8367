import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import {
  type DescMethod,
  fromBinary,
  type JsonObject,
  type MessageInitShape,
  type MessageShape,
  toJson,
} from "@bufbuild/protobuf";
import {
  type SampleRequest,
  SampleRequestSchema,
  type SampleResponse,
  SamplerClient,
  SamplerdError,
  SamplerService,
  status,
  tensor,
  toBf16,
  toF16,
} from "../src/index.js";
import { type ChunkVectors, drawChunks, refuseChunks } from "./chunks.js";
import { difference, type Json } from "./compare.js";
import { expect, type RequestVectors, requestFeatures } from "./requests.js";

interface Call {
  name: string;
  rpc: string;
  request: string;
  reply?: Json;
  error?: { code: number; fields: string[] };
}

interface Arrays {
  name: string;
  rows: number[][];
  dtype: "F32" | "F16" | "BF16";
  temperature: number;
  seed: number;
  num_samples: number;
  data: string;
  samples: number[];
}

interface Frequencies {
  name: string;
  request: string;
  probabilities: number[];
  draws: number;
  critical: number;
}

interface Vectors extends RequestVectors {
  tolerance: number;
  calls: Call[];
  arrays: Arrays[];
  frequencies: Frequencies[];
  chunks: ChunkVectors;
  slow: { vocab_size: number; modulus: number; num_samples: number };
}

const { values: flags } = parseArgs({
  options: {
    target: { type: "string", default: "" },
    vectors: { type: "string", default: "" },
    "retry-target": { type: "string", default: "" },
    servers: { type: "string", default: "" },
    "unix-target": { type: "string", default: "" },
    "tls-target": { type: "string", default: "" },
    ca: { type: "string", default: "" },
    token: { type: "string", default: "" },
  },
});
const vectors = JSON.parse(readFileSync(flags.vectors, "utf8")) as Vectors;
const WORKED = { source: { case: "tensor", value: tensor(new Float32Array([1, 2, 0.5, 1.5])) } } as const;
const ASKED = { ...WORKED, params: { temperature: 0.7 }, seed: 1234n, numSamples: 5 };

async function refused(call: Promise<unknown>, ...codes: status[]): Promise<SamplerdError> {
  try {
    await call;
  } catch (error) {
    if (error instanceof SamplerdError && codes.includes(error.code)) return error;
    throw error;
  }
  throw new Error(`answered, where ${codes.map((code) => status[code])} was due`);
}

async function using<T>(
  target: string | string[],
  options: ConstructorParameters<typeof SamplerClient>[1],
  use: (client: SamplerClient) => Promise<T>,
): Promise<T> {
  const client = new SamplerClient(target, options);
  try {
    return await use(client);
  } finally {
    client.close();
  }
}

const onTarget = <T>(use: (client: SamplerClient) => Promise<T>) => using(flags.target, {}, use);
const decode = (text: string) => fromBinary(SampleRequestSchema, Buffer.from(text, "base64"));

/** Gives a reply as the suite's JSON has it: the contract's names, enums as numbers, all that is not empty. */
function json<M extends DescMethod>(method: M, reply: MessageShape<M["output"]>): JsonObject {
  return toJson(method.output, reply, { enumAsInteger: true, useProtoFieldName: true }) as JsonObject;
}

async function call(client: SamplerClient, { name, rpc, request, reply, error }: Call): Promise<void> {
  const methods: Record<string, DescMethod> = {
    Sample: SamplerService.method.sample,
    VerifyDraft: SamplerService.method.verifyDraft,
    CreateDistribution: SamplerService.method.createDistribution,
    DeleteDistribution: SamplerService.method.deleteDistribution,
  };
  const method = methods[rpc];
  expect(method !== undefined, `${name}: no method ${rpc}`);
  const message = fromBinary(method.input, Buffer.from(request, "base64"));
  const answer = client.call(method, message as MessageInitShape<typeof method.input>);
  if (error !== undefined) {
    const got = await refused(answer, error.code).catch((other: unknown) => {
      throw new Error(`${name}: ${other}`);
    });
    const fields = got.violations.map(({ field }) => field);
    expect(error.fields.length === 0 || String(fields) === String(error.fields), `${name}: names ${fields}`);
    return;
  }
  const got = json(method, await answer);
  if (!rpc.endsWith("Distribution")) same(name, got, reply);
}

function same(name: string, got: JsonObject, want: Json | undefined): void {
  const found = difference(got as Json, want, vectors.tolerance);
  expect(found === undefined, `${name}: ${found}`);
}

function slow(): MessageInitShape<typeof SampleRequestSchema> {
  const { vocab_size, modulus, num_samples } = vectors.slow;
  const row = Float32Array.from({ length: vocab_size }, (_, i) => i % modulus);
  return {
    source: { case: "tensor", value: tensor(row) },
    numSamples: num_samples,
  };
}

/** Makes the first of the calls. */
async function worked(client: SamplerClient): Promise<void> {
  const [first] = vectors.calls as [Call, ...Call[]];
  const { samples } = await client.sample(ASKED);
  expect(String(samples) === String((first.reply as { samples: number[] }).samples), `drew ${samples}`);
}

const features: Record<string, () => Promise<string>> = {
  calls: () =>
    onTarget(async (client) => {
      for (const own of vectors.calls) await call(client, own);
      return `${vectors.calls.length} calls`;
    }),

  ...requestFeatures(vectors, onTarget),

  arrays: () =>
    onTarget(async (client) => {
      for (const own of vectors.arrays) {
        const numbers = Float32Array.from(own.rows.flat());
        const rows = own.rows.length;
        const made = {
          F32: () => tensor({ data: numbers, rows }),
          F16: () => tensor({ data: toF16(numbers), rows, bits: "f16" }),
          BF16: () => tensor({ data: toBf16(numbers), rows, bits: "bf16" }),
        }[own.dtype]();
        expect(Buffer.from(made.data).toString("base64") === own.data, `${own.name}: other bytes`);
        const reply = await client.sample({
          source: { case: "tensor", value: made },
          params: { temperature: own.temperature },
          seed: BigInt(own.seed),
          numSamples: own.num_samples,
        });
        expect(String(reply.samples) === String(own.samples), `${own.name}: drew ${reply.samples}`);
      }
      return `${vectors.arrays.length} arrays`;
    }),

  halves: () =>
    onTarget(async (client) => {
      const halves = vectors.arrays.filter(({ dtype }) => dtype !== "F32");
      for (const own of halves) {
        const bytes = Uint8Array.from(Buffer.from(own.data, "base64"));
        const bits = own.dtype === "F16" ? "f16" : "bf16";
        const made = tensor({ data: new Uint16Array(bytes.buffer), rows: own.rows.length, bits });
        expect(made.data.buffer === bytes.buffer, `${own.name}: was copied`);
        const reply = await client.sample({
          source: { case: "tensor", value: made },
          params: { temperature: own.temperature },
          seed: BigInt(own.seed),
          numSamples: own.num_samples,
        });
        expect(String(reply.samples) === String(own.samples), `${own.name}: drew ${reply.samples}`);
      }
      return `${halves.length} arrays`;
    }),

  frequencies: () =>
    onTarget(async (client) => {
      for (const { name, request, probabilities, draws, critical } of vectors.frequencies) {
        const counts = new Array<number>(probabilities.length).fill(0);
        for (const id of (await client.sample(decode(request))).samples) counts[id] = (counts[id] ?? 0) + 1;
        let sum = 0;
        for (const [id, probability] of probabilities.entries()) {
          const count = counts[id] ?? 0;
          expect(probability > 0 || count === 0, `${name}: an impossible category was drawn`);
          if (probability > 0) sum += (count - probability * draws) ** 2 / (probability * draws);
        }
        expect(sum <= critical, `${name}: ${sum} > ${critical}`);
      }
      return `${vectors.frequencies.length} laws`;
    }),

  stream: () =>
    onTarget(async (client) => {
      const stream = client.stream({ timeoutMs: 60_000 });
      const asked: Promise<void>[] = [];
      for (const own of vectors.calls) {
        if (own.rpc !== "Sample" || own.reply === undefined) continue;
        const request: SampleRequest = decode(own.request);
        if (request.source.case === "distribution") continue;
        const check = async () => {
          const reply: SampleResponse = await stream.sample(request);
          same(own.name, json(SamplerService.method.sample, { ...reply, id: 0n }), {
            ...(own.reply as object),
            id: undefined,
          } as unknown as Json);
        };
        asked.push(check());
      }
      await Promise.all(asked);
      await stream.close();
      return `${asked.length} requests in flight`;
    }),

  chunks: async () => {
    await onTarget((client) => drawChunks(client, vectors.chunks, refused));
    await using(flags["retry-target"], {}, (client) => refuseChunks(client, refused));
    return `${vectors.chunks.cases.length} draws`;
  },

  limits: () =>
    onTarget(async (client) => {
      const info = await client.serverInfo();
      const row = new Float32Array(3_000_000);
      const reply = await client.sample({ source: { case: "tensor", value: tensor(row) }, numSamples: 2_000_000 });
      expect(reply.samples.length === 2_000_000, `${reply.samples.length} samples`);
      return `max_message_bytes ${info.limits?.maxMessageBytes}`;
    }),

  deadline: () =>
    onTarget(async (client) => {
      const late = client.sample(slow(), { timeoutMs: 50 });
      return status[(await refused(late, status.DEADLINE_EXCEEDED, status.RESOURCE_EXHAUSTED)).code];
    }),

  cancel: () =>
    onTarget(async (client) => {
      const controller = new AbortController();
      const begun = Date.now();
      setTimeout(() => controller.abort(), 100);
      await refused(client.sample(slow(), { signal: controller.signal, timeoutMs: 60_000 }), status.CANCELLED);
      expect(Date.now() - begun < 1100, "it did not end at once");
      return "CANCELLED";
    }),

  retry: () =>
    using(flags["retry-target"], {}, async (client) => {
      for (const id of [1n, 4n]) {
        const reply = await client.sample({ ...WORKED, id });
        expect(String(reply.samples) === "7", `answered with ${reply.samples}`);
      }
      await refused(client.sample({ ...WORKED, id: 2n }), status.RESOURCE_EXHAUSTED);
      await refused(client.sample({ ...WORKED, id: 3n }), status.INVALID_ARGUMENT);
      return "tried again twice";
    }),

  metadata: () =>
    using(flags["retry-target"], { metadata: { "x-tenant": "conformance" } }, async (client) => {
      const reply = await client.sample({ source: { case: "distribution", value: "prior" } });
      expect(String(reply.samples) === "7", `answered with ${reply.samples}`);
      return "and the distribution's name";
    }),

  budget: () =>
    using(flags["retry-target"], {}, async (client) => {
      const draw = (name: string) => client.sample({ source: { case: "distribution", value: name } });
      for (let i = 0; i < 40; i++) await refused(draw("outage"), status.UNAVAILABLE);
      for (let i = 0; i < 11; i++) await draw("steady");
      await refused(draw("outage"), status.UNAVAILABLE);
      return "21 retries of 41 calls";
    }),

  servers: () =>
    using(flags.servers.split(","), {}, async (client) => {
      for (let i = 0; i < 200; i++) {
        const { samples } = await client.sample({ source: { case: "tensor", value: tensor(new Float32Array(1)) } });
        expect(String(samples) === "0", `drew ${samples}`);
        await sleep(10);
      }
      return "200 draws";
    }),

  connections: async () => {
    await using(flags["retry-target"], { connections: 4 }, async (client) => {
      for (let i = 0; i < 40; i++) await client.sample({ source: { case: "distribution", value: "connections" } });
    });
    await using(flags.target, { connections: 4 }, async (client) => {
      for (let i = 0; i < 8; i++) await worked(client);
    });
    return "4 connections";
  },

  unix: async () => {
    await using(flags["unix-target"], { token: "unasked" }, worked);
    return "and a token in plain text";
  },

  tls: async () => {
    const { ca, token } = flags;
    await using(flags["tls-target"], { tls: { ca }, token }, worked);
    await using(flags["tls-target"], { tls: {}, token, timeoutMs: 5000 }, (client) =>
      refused(client.sample(ASKED), status.UNAVAILABLE, status.DEADLINE_EXCEEDED),
    );
    return "and refused without the CA";
  },

  token: async () => {
    for (const other of [{ token: "wrong" }, {}]) {
      await using(flags["tls-target"], { tls: { ca: flags.ca }, ...other }, (client) =>
        refused(client.sample(ASKED), status.UNAUTHENTICATED),
      );
    }
    return "UNAUTHENTICATED";
  },
};

for (const [name, feature] of Object.entries(features)) {
  try {
    console.log(`${name}\tpass\t${await feature()}`);
  } catch (error) {
    console.error(`${name}: ${error}`);
    console.log(`${name}\tfail\t${(error instanceof Error ? error.message : String(error)).split("\n")[0]}`);
    process.exitCode = 1;
  }
}
