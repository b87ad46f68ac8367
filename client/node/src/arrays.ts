import { create } from "@bufbuild/protobuf";
import { Dtype, type Tensor, TensorSchema } from "#proto/samplerd/v1/sampler_pb.js";

/** What this library must know of a `Float16Array`, which the language has since Node.js 24, and its types later still. */
export interface Float16Numbers {
  readonly [Symbol.toStringTag]: "Float16Array";
  readonly buffer: ArrayBufferLike;
  readonly byteOffset: number;
  readonly byteLength: number;
  readonly length: number;
}

/** Rows as numbers, all of the same length; a `Uint16Array` holds the bits of f16 or bf16. */
export interface Rows {
  /** The numbers, row-major. Every array is sent as its own bytes. */
  readonly data: Float32Array | Float64Array | Uint16Array | Float16Numbers;
  /** Number of rows. Default 1. */
  readonly rows?: number;
  /** How a `Uint16Array` is to be read. Default f16. */
  readonly bits?: "f16" | "bf16";
}

const isLittleEndian = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

/**
 * Makes a tensor over the very bytes of an array: nothing is copied, so do not change it until the call has been sent.
 *
 * @throws RangeError if the numbers do not make whole rows.
 */
export function tensor(rows: Rows | Float32Array | Float64Array | Float16Numbers): Tensor {
  const { data, rows: count = 1, bits = "f16" } = "byteLength" in rows ? { data: rows } : rows;
  if (!isLittleEndian) throw new Error("samplerd's bytes are little-endian, and this machine is not");
  if (!Number.isInteger(count) || count < 1 || data.length === 0 || data.length % count !== 0) {
    throw new RangeError(`${data.length} numbers are not ${count} rows of equal length`);
  }
  return create(TensorSchema, {
    dtype: dtypeOf(data, bits),
    rows: count,
    vocabSize: data.length / count,
    data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
  });
}

function dtypeOf(data: Rows["data"], bits: "f16" | "bf16"): Dtype {
  if (data instanceof Float32Array) return Dtype.F32;
  if (data instanceof Float64Array) return Dtype.F64;
  return bits === "f16" || data[Symbol.toStringTag] === "Float16Array" ? Dtype.F16 : Dtype.BF16;
}

/** Rounds to bfloat16: to nearest, ties to even; NaN stays NaN, and what is too large becomes infinite. */
export function toBf16(values: Float32Array): Uint16Array {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const halves = new Uint16Array(values.length);
  for (let i = 0; i < words.length; i++) {
    const word = words[i] as number;
    const isNan = (word & 0x7fffffff) > 0x7f800000;
    halves[i] = isNan ? (word >>> 16) | 0x40 : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
  }
  return halves;
}

/** Rounds to binary16: to nearest, ties to even; NaN stays NaN, and what is too large becomes infinite. */
export function toF16(values: Float32Array): Uint16Array {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const halves = new Uint16Array(values.length);
  for (let i = 0; i < words.length; i++) halves[i] = halfOf(words[i] as number);
  return halves;
}

function halfOf(word: number): number {
  const sign = (word >>> 16) & 0x8000;
  const magnitude = word & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00; // 65520 and above
  if (magnitude >= 0x38800000) {
    const rebased = magnitude - 0x38000000; // another bias of the exponent
    return sign | ((rebased + 0xfff + ((rebased >>> 13) & 1)) >>> 13);
  }
  if (magnitude < 0x33000000) return sign; // at most half of the least subnormal
  const shift = 126 - (magnitude >>> 23);
  const significand = (magnitude & 0x7fffff) | 0x800000;
  const half = significand >>> shift;
  const rest = significand & ((1 << shift) - 1);
  const middle = 1 << (shift - 1);
  return sign | (half + (rest > middle || (rest === middle && (half & 1) === 1) ? 1 : 0));
}

/** Reads raw samples: the int32 of `SampleResponse.rawSamples`, in memory of their own. */
export function fromRawSamples(bytes: Uint8Array): Int32Array {
  return new Int32Array(new Uint8Array(bytes).buffer); // not slice(): that of a Buffer is a view of all of its memory
}
