import { fromBinary } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { type Metadata, type ServiceError, status } from "@grpc/grpc-js";
import { BadRequestSchema, ErrorInfoSchema } from "#proto/google/rpc/error_details_pb.js";
import { type Status, StatusSchema } from "#proto/google/rpc/status_pb.js";

/** A field of the request that the server refused. */
export interface FieldViolation {
  /** Its path in the contract: `tensor.data`, `row_params[2].top_p`. */
  readonly field: string;
  /** What is wrong with it and what is allowed. */
  readonly description: string;
}

/** A call that failed. `code` is one of grpc-js's `status`. */
export class SamplerdError extends Error {
  override readonly name = "SamplerdError";

  constructor(
    /** Status of the call, as `status` of grpc-js names it. */
    readonly code: status,
    message: string,
    /** UPPER_SNAKE name for programs; empty when the server gave none. */
    readonly reason = "",
    /** The fields in error. */
    readonly violations: readonly FieldViolation[] = [],
    /** Milliseconds after which to ask again; negative: never; undefined: the server did not say. */
    readonly pushbackMs: number | undefined = undefined,
  ) {
    super(message);
  }

  /** Whether asking again may help: the server is full, or not there. */
  get isRetryable(): boolean {
    const isTransient = this.code === status.RESOURCE_EXHAUSTED || this.code === status.UNAVAILABLE;
    return isTransient && (this.pushbackMs === undefined || this.pushbackMs >= 0);
  }
}

/** Makes an error of what grpc-js gives. */
export function errorFrom(error: ServiceError): SamplerdError {
  const rich = statusOf(error.metadata);
  return new SamplerdError(error.code, error.details, ...details(rich), pushbackOf(error.metadata));
}

/** Makes an error of the status of one request of a stream. */
export function errorFromStatus(rich: Status): SamplerdError {
  return new SamplerdError(rich.code, rich.message, ...details(rich));
}

function statusOf(metadata: Metadata | undefined): Status | undefined {
  const [bytes] = metadata?.get("grpc-status-details-bin") ?? [];
  return bytes instanceof Uint8Array ? fromBinary(StatusSchema, bytes) : undefined;
}

function details(rich: Status | undefined): [string, FieldViolation[]] {
  let reason = "";
  const violations: FieldViolation[] = [];
  for (const detail of rich?.details ?? []) {
    reason = anyUnpack(detail, ErrorInfoSchema)?.reason ?? reason;
    for (const { field, description } of anyUnpack(detail, BadRequestSchema)?.fieldViolations ?? []) {
      violations.push({ field, description });
    }
  }
  return [reason, violations];
}

/** Reads the pushback; what is no number means never, as gRPC has it. */
function pushbackOf(metadata: Metadata | undefined): number | undefined {
  const [text] = metadata?.get("grpc-retry-pushback-ms") ?? [];
  if (text === undefined) return undefined;
  return /^\d+$/.test(String(text)) ? Number(text) : -1;
}
