/** Slates: lists of five films out of a catalogue, drawn without replacement, the better ones more often first. */
import { parseArgs } from "node:util";
import { fromRawSamples, Replacement, SamplerClient, tensor } from "../src/index.js";

const CATALOGUE: [title: string, score: number][] = [
  ["Metropolis", 2.4],
  ["Nosferatu", 1.9],
  ["The General", 2.1],
  ["Sunrise", 1.7],
  ["The Gold Rush", 2.2],
  ["Battleship Potemkin", 1.8],
  ["Safety Last!", 1.2],
  ["The Kid", 1.6],
  ["Pandora's Box", 0.9],
  ["Man with a Movie Camera", 1.4],
  ["The Lodger", 0.6],
  ["Wings", 0.8],
];
const VISITORS = 4;
const SLOTS = 5;

const { values: flags } = parseArgs({ options: { target: { type: "string", default: "127.0.0.1:50051" } } });
const scores = Float32Array.from(CATALOGUE, ([, score]) => score);
const client = new SamplerClient(flags.target);
const stream = client.stream();

for (const temperature of [0.2, 1]) {
  console.log(`T = ${temperature}`);
  const slates = Array.from({ length: VISITORS }, (_, visitor) =>
    stream.sample({
      source: { case: "tensor", value: tensor(scores) },
      params: { temperature },
      numSamples: SLOTS,
      replacement: Replacement.WITHOUT,
      seed: BigInt(visitor), // the same visitor sees the same list again
      outputs: { rawSamples: true },
    }),
  );
  for (const [visitor, reply] of (await Promise.all(slates)).entries()) {
    const titles = Array.from(fromRawSamples(reply.rawSamples), (id) => CATALOGUE[id]?.[0]);
    console.log(`  visitor ${visitor}: ${titles.join(", ")}`);
  }
}
await stream.close();
client.close();
