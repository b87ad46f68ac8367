import { fromJson, type JsonObject } from "@bufbuild/protobuf";
import { type SamplerClient, type SamplerdError, SamplingParamsSchema, tensor } from "../src/index.js";

interface Parameters {
  tables: number[][][];
  seed: number;
  num_samples: number;
  cases: { name: string; table: number; params: JsonObject; samples: number[] }[];
}

interface Guidance {
  name: string;
  rows: number[][];
  guidance: number[][];
  guidance_scale: number;
  top_k: number;
  seed: number;
  num_samples: number;
  samples: number[];
}

interface Draft {
  name: string;
  draft_ids: number[];
  parents: number[];
  draft: number[][];
  target: number[][];
  temperature: number;
  seed: number;
  samples: number[];
  accepted: number;
  path: number[];
}

/** What of the vectors a client builds requests of. */
export interface RequestVectors {
  parameters: Parameters;
  guidance: Guidance[];
  drafts: Draft[];
}

export function expect(condition: boolean, text: string): asserts condition {
  if (!condition) throw new Error(text);
}

const rowsOf = (rows: number[][]) => tensor({ data: Float32Array.from(rows.flat()), rows: rows.length });

type OnTarget = (use: (client: SamplerClient) => Promise<string>) => Promise<string>;

/** The features that build their requests of numbers and names. */
export function requestFeatures(
  vectors: RequestVectors,
  onTarget: OnTarget,
): Record<"parameters" | "guidance" | "drafts", () => Promise<string>> {
  return {
    parameters: () =>
      onTarget(async (client) => {
        const { tables, seed, num_samples, cases } = vectors.parameters;
        const failed: string[] = [];
        for (const { name, table, params, samples } of cases) {
          const reply = await client
            .sample({
              source: { case: "tensor", value: rowsOf(tables[table] ?? []) },
              params: fromJson(SamplingParamsSchema, params),
              seed: BigInt(seed),
              numSamples: num_samples,
            })
            .catch((error: SamplerdError) => error);
          if (!("samples" in reply) || String(reply.samples) !== String(samples)) failed.push(name);
        }
        expect(failed.length === 0, failed.join("; "));
        return `${cases.length} sets of parameters`;
      }),

    guidance: () =>
      onTarget(async (client) => {
        for (const own of vectors.guidance) {
          const { samples } = await client.sample({
            source: { case: "tensor", value: rowsOf(own.rows) },
            guidance: { source: { case: "tensor", value: rowsOf(own.guidance) } },
            params: { guidanceScale: own.guidance_scale, topK: own.top_k },
            seed: BigInt(own.seed),
            numSamples: own.num_samples,
          });
          expect(String(samples) === String(own.samples), `${own.name}: drew ${samples}`);
        }
        return `${vectors.guidance.length} pairs of rows`;
      }),

    drafts: () =>
      onTarget(async (client) => {
        for (const own of vectors.drafts) {
          const { samples, accepted, path } = await client.verifyDraft({
            draftIds: own.draft_ids,
            parents: own.parents,
            target: rowsOf(own.target),
            ...(own.draft.length === 0 ? {} : { draft: rowsOf(own.draft) }),
            params: { temperature: own.temperature },
            seed: BigInt(own.seed),
          });
          const [got, want] = [{ samples, accepted, path }, own].map(({ samples, accepted, path }) =>
            JSON.stringify([samples, accepted, path]),
          );
          expect(got === want, `${own.name}: ${got}`);
        }
        return `${vectors.drafts.length} drafts`;
      }),
  };
}
