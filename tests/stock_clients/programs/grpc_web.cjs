// grpc-web, the client of the gRPC project for browsers, with the XMLHttpRequest of the package xhr2.
//
// Arguments: the server's address, and the format (text, or binary). Prints one JSON object of what it got.
const { create, fromBinary, toBinary } = require("@bufbuild/protobuf");
globalThis.XMLHttpRequest = require("xhr2");
const { GrpcWebClientBase, MethodDescriptor, MethodType } = require("grpc-web");
const pb = require(`${process.cwd()}/gen/samplerd/v1/sampler_pb.js`);

const request = (numSamples = 5, params = { temperature: 0.7 }) =>
  create(pb.SampleRequestSchema, {
    source: { case: "values", value: { row: [{ values: [1, 2, 0.5, 1.5] }] } },
    params,
    numSamples,
    seed: 42n,
  });
const method = (name, type) =>
  new MethodDescriptor(
    `/samplerd.v1.SamplerService/${name}`,
    type,
    Object,
    Object,
    (message) => toBinary(pb.SampleRequestSchema, message),
    (bytes) => fromBinary(pb.SampleResponseSchema, bytes),
  );

async function main(address, format) {
  const client = new GrpcWebClientBase({ format });
  const call = (name, message) =>
    client.unaryCall(`http://${address}/samplerd.v1.SamplerService/${name}`, message, {}, method(name, MethodType.UNARY));
  const told = {};
  told.unary = [...(await call("Sample", request())).samples];
  told.long = (await call("Sample", request(20000))).samples.length;
  try {
    await call("Sample", request(5, { topP: 7 }));
  } catch (error) {
    told.invalid = { code: error.code, message: error.message };
  }
  if (format === "text") {
    // Browsers can read a stream only in this format; the method takes one request as well as many.
    const url = `http://${address}/samplerd.v1.SamplerService/SampleStream`;
    const stream = client.serverStreaming(url, request(), {}, method("SampleStream", MethodType.SERVER_STREAMING));
    told.stream = [];
    await new Promise((resolve, reject) => {
      stream.on("data", (reply) => told.stream.push([...reply.samples]));
      stream.on("error", reject);
      stream.on("end", resolve);
    });
  }
  console.log(JSON.stringify(told));
}

main(...process.argv.slice(2));
