import { SamplerClient, tensor } from "samplerd";

const client: SamplerClient = new SamplerClient("127.0.0.1:50051");
const reply = await client.sample({ source: { case: "tensor", value: tensor(new Float32Array([1])) } });
export const samples: number[] = reply.samples;
