export { status } from "@grpc/grpc-js";
export * from "#proto/samplerd/v1/sampler_pb.js";
export { type Float16Numbers, fromRawSamples, type Rows, tensor, toBf16, toF16 } from "./arrays.js";
export type { SampleChunk } from "./chunks.js";
export { type CallOptions, type ClientOptions, SamplerClient } from "./client.js";
export { type FieldViolation, SamplerdError } from "./errors.js";
export type { RetryPolicy } from "./retry.js";
export { SampleStream } from "./stream.js";
