import { type SamplerClient, type SamplerdError, SamplerService, status, tensor } from "../src/index.js";
import { expect } from "./requests.js";

/** Draws that are larger than a chunk, from one distribution. */
export interface ChunkVectors {
  rows: number[][];
  cases: {
    name: string;
    seed: number;
    draw_offset: number;
    temperature: number;
    num_samples: number;
    samples: number[];
  }[];
}

type Request = Parameters<SamplerClient["drawChunks"]>[0];
type Refused = (call: Promise<unknown>, ...codes: status[]) => Promise<SamplerdError>;

const ENDLESS = 2_000_000_000;

/** Draws in chunks from a samplerd. */
export async function drawChunks(client: SamplerClient, own: ChunkVectors, refused: Refused): Promise<void> {
  const rows = tensor({ data: Float32Array.from(own.rows.flat()), rows: own.rows.length });
  const { distribution } = await client.call(SamplerService.method.createDistribution, {
    source: { case: "tensor", value: rows },
  });
  const name = distribution?.name ?? "";
  for (const [index, each] of own.cases.entries()) await drawCase(client, name, each, index === 1);
  const wrong = await refused(count(client, { ...from(name), params: { temperature: -1 } }), status.INVALID_ARGUMENT);
  const fields = wrong.violations.map(({ field }) => field);
  expect(String(fields) === "params.temperature", `a refusal names ${fields}`);
  await refused(count(client, from("there.is.none")), status.NOT_FOUND);
  await stopEarly(client, name);
  await client.call(SamplerService.method.deleteDistribution, { name });
}

function from(name: string): { source: { case: "distribution"; value: string } } {
  return { source: { case: "distribution", value: name } };
}

async function drawCase(
  client: SamplerClient,
  name: string,
  own: ChunkVectors["cases"][number],
  rawSamples: boolean,
): Promise<void> {
  const ids: number[] = [];
  let number = 0;
  let isFinal = false;
  const chunks = client.drawChunks({
    ...from(name),
    seed: BigInt(own.seed),
    drawOffset: BigInt(own.draw_offset),
    params: { temperature: own.temperature },
    numSamples: own.num_samples,
    outputs: { rawSamples },
  });
  for await (const { offset, samples, reply } of chunks) {
    expect(
      !isFinal && reply.chunk === number && offset === ids.length,
      `${own.name}: chunk ${reply.chunk} at ${offset}`,
    );
    expect(reply.seed === BigInt(own.seed), `${own.name}: seed ${reply.seed}`);
    ids.push(...samples);
    number++;
    isFinal = reply.final;
  }
  expect(number > 1 && isFinal, `${own.name}: ${number} chunks`);
  expect(String(ids) === String(own.samples), `${own.name}: drew ${ids}`);
}

/** Meets a server that is busy before the first chunk, and one that is not there after it. */
export async function refuseChunks(client: SamplerClient, refused: Refused): Promise<void> {
  expect((await count(client, from("busy"))) === 2, "a server that was busy gave other chunks");
  const fails = async (name: string, code: status, timeoutMs?: number) => {
    let got = 0;
    const draw = count(client, from(name), timeoutMs, () => got++);
    await refused(draw, code);
    expect(got === 1, `${name}: failed after ${got} chunks`);
  };
  await fails("broken", status.UNAVAILABLE);
  await fails("cut", status.UNAVAILABLE);
  expect((await count(client, from("slow"), 2000)) === 5, "a slow draw had other chunks"); // longer in all than one wait
  await fails("silent", status.DEADLINE_EXCEEDED, 300);
  await stopEarly(client, "endless");
  const { samples } = await client.sample(from("left")); // answered once no draw is in flight
  expect(String(samples) === "7", `answered with ${samples}`);
}

/** Counts the chunks of a draw. */
async function count(client: SamplerClient, request: Request, timeoutMs = 20_000, each = () => 0): Promise<number> {
  let number = 0;
  for await (const { reply } of client.drawChunks(request, { timeoutMs })) {
    expect(reply.chunk === number++, `chunk ${reply.chunk} is not number ${number - 1}`);
    each();
  }
  return number;
}

async function stopEarly(client: SamplerClient, name: string): Promise<void> {
  let number = 0;
  for await (const { reply } of client.drawChunks({ ...from(name), numSamples: ENDLESS })) {
    expect(reply.chunk === number++, `chunk ${reply.chunk} is not number ${number - 1}`);
    if (number === 2) return;
  }
  throw new Error(`${name} ended after ${number} chunks`);
}
