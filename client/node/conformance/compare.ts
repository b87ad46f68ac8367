/** ProtoJSON of the suite. */
export type Json = { [key: string]: Json } | Json[] | string | number | boolean | null;

/** What is the server's own: where the time went, and texts for people. */
const IGNORED = new Set(["timing", "message"]);

/** Says where two replies differ; undefined: nowhere. Floats may differ by the tolerance, all else not at all. */
export function difference(
  got: Json | undefined,
  want: Json | undefined,
  tolerance: number,
  path = "",
): string | undefined {
  if (Array.isArray(want) && Array.isArray(got)) {
    if (got.length !== want.length) return `${path} has ${got.length} entries, not ${want.length}`;
    return first(want, (own, i) => difference(got[i], own, tolerance, `${path}[${i}]`));
  }
  if (isObject(want) && isObject(got)) {
    const keys = [...new Set([...Object.keys(got), ...Object.keys(want)])].filter((key) => !IGNORED.has(key));
    return first(keys, (key) => {
      const isFloats = key === "raw_samples" && "kind" in want;
      const [ours, theirs] = isFloats ? [floats(got[key]), floats(want[key])] : [got[key], want[key]];
      return difference(ours, theirs, tolerance, `${path}.${key}`);
    });
  }
  if (typeof want === "number" && typeof got === "number" && Math.abs(got - want) <= tolerance) return undefined;
  return got === want ? undefined : `${path} is ${JSON.stringify(got)}, not ${JSON.stringify(want)}`;
}

function isObject(value: Json | undefined): value is { [key: string]: Json } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function floats(text: Json | undefined): Json {
  const bytes = Uint8Array.from(Buffer.from(String(text ?? ""), "base64"));
  return Array.from(new Float32Array(bytes.buffer), (value) => (Number.isFinite(value) ? value : String(value)));
}

function first<T>(items: T[], find: (item: T, index: number) => string | undefined): string | undefined {
  for (const [i, item] of items.entries()) {
    const found = find(item, i);
    if (found !== undefined) return found;
  }
  return undefined;
}
