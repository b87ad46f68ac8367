import assert from "node:assert/strict";
import { test } from "node:test";
import { status } from "@grpc/grpc-js";
import { difference } from "../conformance/compare.js";
import { isLocal } from "../src/client.js";
import {
  Dtype,
  type Float16Numbers,
  fromRawSamples,
  SamplerClient,
  SamplerdError,
  tensor,
  toBf16,
  toF16,
} from "../src/index.js";
import { DEFAULT_RETRY, RetryBudget, waitBefore, withRetries } from "../src/retry.js";

const full = (pushbackMs?: number) => new SamplerdError(status.RESOURCE_EXHAUSTED, "full", "", [], pushbackMs);

/** The value of a binary16. */
function valueOfHalf(half: number): number {
  const [sign, exponent, rest] = [half & 0x8000 ? -1 : 1, (half >> 10) & 31, half & 1023];
  if (exponent === 31) return rest ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (exponent ? (1 + rest / 1024) * 2 ** (exponent - 15) : (rest / 1024) * 2 ** -14);
}

test("every binary16 comes back, and what lies between goes to the nearest, ties to even", () => {
  for (let half = 0; half < 0x7c00; half++) {
    const [value, next] = [valueOfHalf(half), half === 0x7bff ? 65536 : valueOfHalf(half + 1)];
    const middle = (value + next) / 2;
    const got = toF16(Float32Array.of(value, -value, middle, middle * (1 - 2 ** -20), middle * (1 + 2 ** -20)));
    const even = half & 1 ? half + 1 : half;
    assert.deepEqual([...got], [half, half | 0x8000, even, half, half + 1], `at ${half}`);
  }
});

test("NaN and infinity stay what they are", () => {
  const odd = Float32Array.of(Number.NaN, Number.POSITIVE_INFINITY, -Number.POSITIVE_INFINITY, 1e30);
  assert.deepEqual([...toF16(odd)], [0x7e00, 0x7c00, 0xfc00, 0x7c00]);
  const [nan, ...others] = toBf16(odd);
  assert.deepEqual(others.slice(0, 2), [0x7f80, 0xff80]);
  assert.equal(((nan as number) & 0x7f80) === 0x7f80 && ((nan as number) & 0x7f) !== 0, true);
  assert.equal(toBf16(Float32Array.of(3.4e38))[0], 0x7f80);
});

test("bfloat16 goes to the nearest, ties to even", () => {
  const bits = Uint32Array.of(0x3f808000, 0x3f818000, 0x3f808001, 0x3f807fff);
  assert.deepEqual([...toBf16(new Float32Array(bits.buffer))], [0x3f80, 0x3f82, 0x3f81, 0x3f80]);
});

test("a tensor is the array's own bytes", () => {
  const numbers = new Float32Array(12).subarray(2, 8);
  const made = tensor({ data: numbers, rows: 2 });
  assert.equal(made.data.buffer, numbers.buffer);
  assert.deepEqual([made.rows, made.vocabSize, made.data.byteLength], [2, 3, 24]);
  assert.throws(() => tensor({ data: numbers, rows: 4 }), RangeError);
  assert.throws(() => tensor(new Float32Array(0)), RangeError);
});

test("a Float16Array is sent as its own bytes, where the language has one", () => {
  const numbers: unknown = Object.defineProperty(Uint16Array.of(0x3c00, 0xc000), Symbol.toStringTag, {
    value: "Float16Array", // stands for it: Node.js has had it since 24
  });
  const made = tensor({ data: numbers as Float16Numbers, bits: "bf16" });
  assert.equal(made.data.buffer, (numbers as Uint16Array).buffer);
  assert.deepEqual([made.dtype, made.vocabSize, made.data.byteLength], [Dtype.F16, 2, 4]);
});

test("raw samples are int32", () => {
  assert.deepEqual([...fromRawSamples(Uint8Array.of(1, 0, 0, 0, 255, 255, 255, 255))], [1, -1]);
  const within = Buffer.from([9, 1, 0, 0, 0, 2, 0, 0, 0]).subarray(1); // as grpc-js hands it out: in the middle of a message
  assert.deepEqual([...fromRawSamples(within)], [1, 2]);
});

test("a token crosses no network in plain text", () => {
  assert.throws(() => new SamplerClient("example.com:50051", { token: "t" }), /plain text/);
  for (const own of ["127.0.0.1:1", "localhost:1", "[::1]:1", "unix:/x"]) assert.equal(isLocal(own), true, own);
  for (const other of ["example.com:1", "10.0.0.1:1", "128.0.0.1:1"]) assert.equal(isLocal(other), false, other);
});

test("waits: the pushback to the millisecond, jitter otherwise, and nothing for what is for good", () => {
  const wait = (attempt: number, error: unknown) => waitBefore(DEFAULT_RETRY, attempt, error, () => 0.5);
  assert.deepEqual(
    [1, 2, 3, 4].map((attempt) => wait(attempt, full())),
    [25, 50, 100, undefined],
  );
  assert.equal(wait(1, full(700)), 700);
  assert.equal(wait(1, full(-1)), undefined);
  assert.equal(wait(1, new SamplerdError(status.INVALID_ARGUMENT, "")), undefined);
  assert.equal(wait(1, new TypeError()), undefined);
  assert.equal(
    waitBefore({ ...DEFAULT_RETRY, maxAttempts: 99 }, 50, full(), () => 1),
    2000,
  );
});

test("no attempt is made past the deadline", async () => {
  let calls = 0;
  const call = () => {
    calls++;
    return Promise.reject(full(10_000));
  };
  await assert.rejects(
    withRetries(call, DEFAULT_RETRY, new RetryBudget(DEFAULT_RETRY), Date.now() + 5000, undefined),
    /full/,
  );
  assert.equal(calls, 1);
});

test("a wait can be cancelled", async () => {
  const signal = AbortSignal.timeout(20);
  await assert.rejects(
    withRetries(() => Promise.reject(full(60_000)), DEFAULT_RETRY, new RetryBudget(DEFAULT_RETRY), Infinity, signal),
    {
      code: status.CANCELLED,
    },
  );
});

test("replies that differ are told apart", () => {
  assert.equal(difference({ a: [1, "NaN"], timing: {} }, { a: [1.00001, "NaN"] }, 1e-4), undefined);
  assert.match(difference({ a: [1] }, { a: [2] }, 1e-4) ?? "", /\.a\[0\]/);
  assert.match(difference({ a: 1, b: 2 }, { a: 1 }, 1e-4) ?? "", /\.b/);
  assert.match(difference({ a: [1, 2] }, { a: [1] }, 1e-4) ?? "", /entries/);
});
