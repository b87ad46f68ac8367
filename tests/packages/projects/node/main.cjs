const { SamplerClient, tensor } = require("samplerd");

const client = new SamplerClient(process.argv[2]);
client
  .sample({
    source: { case: "tensor", value: tensor(new Float32Array([1.0, 2.0, 0.5, 1.5])) },
    params: { temperature: 0.7 },
    numSamples: 5,
    seed: 1234n,
  })
  .then((reply) => {
    console.log(reply.samples.join(" "));
    client.close();
  });
