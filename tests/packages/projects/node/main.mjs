import { SamplerClient, tensor } from "samplerd";

const client = new SamplerClient(process.argv[2]);
const reply = await client.sample({
  source: { case: "tensor", value: tensor(new Float32Array([1.0, 2.0, 0.5, 1.5])) },
  params: { temperature: 0.7 },
  numSamples: 5,
  seed: 1234n,
});
console.log(reply.samples.join(" "));
client.close();
