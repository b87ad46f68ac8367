import { SamplerClient, tensor } from "samplerd";

const client: SamplerClient = new SamplerClient("127.0.0.1:50051");
export const samples: Promise<number[]> = client
  .sample({ source: { case: "tensor", value: tensor(new Float32Array([1])) } })
  .then((reply) => reply.samples);
