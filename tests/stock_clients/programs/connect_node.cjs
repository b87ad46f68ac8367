// The Connect client for Node: unary calls, GET, streams, errors and deadlines, compressed with gzip.
//
// Arguments: the server's address, and the protocol (connect, grpc or grpc_web). Prints one JSON object of what it got.
const { create } = require("@bufbuild/protobuf");
const { createClient, Code } = require("@connectrpc/connect");
const node = require("@connectrpc/connect-node");
const pb = require(`${process.cwd()}/gen/samplerd/v1/sampler_pb.js`);

const request = (id = 0, numSamples = 5) =>
  create(pb.SampleRequestSchema, {
    id: BigInt(id),
    source: { case: "values", value: { row: [{ values: [1, 2, 0.5, 1.5] }] } },
    params: { temperature: 0.7 },
    numSamples,
    seed: 42n,
  });

async function failure(call) {
  try {
    await call;
  } catch (error) {
    return { code: Code[error.code], message: error.rawMessage, details: error.details.map((one) => one.type) };
  }
  throw new Error("it succeeded");
}

async function main(address, protocol) {
  const make = { connect: "createConnectTransport", grpc: "createGrpcTransport", grpc_web: "createGrpcWebTransport" };
  const options = { baseUrl: `http://${address}`, httpVersion: "2", sendCompression: node.compressionGzip, compressMinBytes: 0 };
  const transport = node[make[protocol]](options);
  const client = createClient(pb.SamplerService, transport);
  const told = {};
  told.unary = [...(await client.sample(request())).samples];
  told.long = (await client.sample(request(0, 20000))).samples.length;
  if (protocol === "connect") {
    const getting = createClient(pb.SamplerService, node.createConnectTransport({ ...options, useHttpGet: true }));
    told.get = [...(await getting.sample(request())).samples];
    const json = createClient(pb.SamplerService, node.createConnectTransport({ ...options, useBinaryFormat: false }));
    told.json = [...(await json.sample(request())).samples];
    const old = createClient(pb.SamplerService, node.createConnectTransport({ ...options, httpVersion: "1.1" }));
    told.http1 = [...(await old.sample(request())).samples];
  }
  async function* requests() {
    for (let number = 1; number <= 5; number++) yield request(number);
  }
  told.bidi = [];
  for await (const reply of client.sampleStream(requests())) told.bidi.push([Number(reply.id), [...reply.samples]]);
  told.bidi.sort((one, other) => one[0] - other[0]);
  const wrong = request();
  wrong.params.topP = 7;
  told.invalid = await failure(client.sample(wrong));
  const none = create(pb.SampleRequestSchema, { source: { case: "distribution", value: "none" } });
  told.not_found = await failure(client.sample(none));
  const data = new Uint8Array(80 << 20);
  const large = create(pb.SampleRequestSchema, { source: { case: "tensor", value: { vocabSize: 1, data } } });
  told.too_large = await failure(client.sample(large));
  console.log(JSON.stringify(told));
  process.exit(0);
}

main(...process.argv.slice(2));
