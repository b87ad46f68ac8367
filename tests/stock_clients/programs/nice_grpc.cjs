// nice-grpc, with definitions that @grpc/proto-loader reads from the proto: unary calls, streams, errors.
//
// Arguments: the server's address, and the folder of the protos. Prints one JSON object of what it got.
const { credentials, loadPackageDefinition } = require("@grpc/grpc-js");
const { loadSync } = require("@grpc/proto-loader");
const { createChannel, createClient, Status } = require("nice-grpc");

const request = (id = 0, numSamples = 5) => ({
  id,
  values: { row: [{ values: [1, 2, 0.5, 1.5] }] },
  params: { temperature: 0.7 },
  numSamples,
  seed: 42,
});

async function main(address, protos) {
  const includeDirs = [protos, `${protos}/third_party`];
  const loaded = loadPackageDefinition(loadSync("samplerd/v1/sampler.proto", { includeDirs, enums: String }));
  const channel = createChannel(address, credentials.createInsecure());
  const client = createClient(loaded.samplerd.v1.SamplerService.service, channel);
  const told = {};
  told.unary = (await client.Sample(request())).samples;
  told.many = (await Promise.all([...Array(20)].map(() => client.Sample(request())))).map((reply) => reply.samples);
  async function* requests() {
    for (let number = 1; number <= 5; number++) yield request(number);
  }
  told.bidi = [];
  for await (const reply of client.SampleStream(requests())) told.bidi.push([Number(reply.id), reply.samples]);
  told.bidi.sort((one, other) => one[0] - other[0]);
  try {
    await client.Sample({ ...request(), params: { topP: 7 } });
  } catch (error) {
    told.invalid = { code: Status[error.code], message: error.details };
  }
  console.log(JSON.stringify(told));
  channel.close();
}

main(...process.argv.slice(2));
