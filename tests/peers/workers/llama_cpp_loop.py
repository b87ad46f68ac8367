"""The loop of llama-cpp-python with llama.cpp's own samplers and with samplerd: prints what both draw, as JSON.

Run with the server's address, the prefix of shared memory, a folder to write models into, and the folders of samplerd's
client, of its stubs and of the repository. The chains are those of `llama_cpp_worker`.
"""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path
from typing import Any

import llama_cpp as llama
import llama_cpp_worker as own_chain

address, prefix, folder, *folders = sys.argv[1:]
sys.path[:0] = folders

from benchmarks.engines.random_gguf import Shape, write_model  # noqa: E402  # found in the folders
from samplerd_client import Dry, SamplingParams  # noqa: E402
from samplerd_client.integrations.llama_cpp import LlamaCppSampler  # noqa: E402
from samplerd_client.integrations.llama_cpp_loop import decode_loop  # noqa: E402

SEED = 20261130
ROWS, RUNS = 128, 63
PROMPT = [5, 6, 7, 6]
LAWS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "filters": {"top_k": 12, "top_p": 0.9, "min_p": 0.02, "temperature": 1.1},
    "penalties": {"repetition_penalty": 1.4, "frequency_penalty": 0.3, "presence_penalty": 0.2, "top_k": 0},
    "typical": {"typical_p": 0.7, "dynamic_temperature_range": 0.5, "top_k": 0, "min_p": 0.0},
    "xtc": {"xtc_probability": 0.5, "xtc_threshold": 0.05, "top_k": 0},
    "dry": {"dry": {"multiplier": 1.5, "base": 2.0, "allowed_length": 1}, "top_n_sigma": 2.0},
}
GREEDY: dict[str, dict[str, Any]] = {
    "nothing": {},
    "repetition_penalty": {"repetition_penalty": 1.5},
    "counted penalties": {"frequency_penalty": 1.0, "presence_penalty": 1.0},
    "penalty_range": {"repetition_penalty": 1.5, "penalty_range": 2},
    "dry": {"dry": {"multiplier": 5.0, "base": 2.0, "allowed_length": 1}},
    "logit_bias": {"logit_bias": "first"},
}


def load(path: Path, *, sequences: int, n_batch: int = 2048) -> tuple[Any, Any]:
    """Return a model and a context of it."""
    model = llama.llama_model_load_from_file(str(path).encode(), llama.llama_model_default_params())
    settings = llama.llama_context_default_params()
    settings.n_ctx, settings.n_seq_max, settings.n_batch = 64 * sequences, sequences, n_batch
    settings.n_threads = settings.n_threads_batch = 1
    return model, llama.llama_init_from_model(model, settings)


def ours(fields: dict[str, Any]) -> SamplingParams:
    """Return the parameters of samplerd for those of a chain."""
    own = dict(fields)
    if "dry" in own:
        own["dry"] = Dry(**own["dry"])
    if "logit_bias" in own:
        own["logit_bias"] = dict(own["logit_bias"])
    return SamplingParams.like("llama.cpp", **own)


def chain_of(fields: dict[str, Any], prompt: list[int], vocab_size: int, seed: int) -> Any:
    """Make llama.cpp's chain for one sequence, which has heard the prompt; the last sampler draws."""
    own = own_chain.DEFAULTS | fields | {"history": prompt, "seed": seed}
    if "dry" in own:
        own["dry"] = {"range": own_chain.DEFAULT_DRY_RANGE, **own["dry"]}
    chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
    for sampler in own_chain.chain(own, vocab_size):
        llama.llama_sampler_chain_add(chain, sampler)
    # Not the seed of XTC: its coins and the draws would then be the same random numbers, and not independent.
    llama.llama_sampler_chain_add(chain, llama.llama_sampler_init_dist(seed + ROWS * RUNS))
    return chain


def theirs(context: Any, prompts: list[list[int]], chains: list[Any], max_tokens: int) -> list[list[int]]:
    """Run the loop with one chain for each sequence, and free them."""
    texts: list[list[int]] = [[] for _ in prompts]

    def draw(outputs: Any) -> list[int]:
        rows = zip(outputs.sequences, outputs.positions, strict=True)
        return [llama.llama_sampler_sample(chains[sequence], context, position) for sequence, position in rows]

    for sequence, token in decode_loop(context, prompts, draw, max_tokens=max_tokens):
        texts[sequence].append(token)
    for chain in chains:
        llama.llama_sampler_free(chain)
    return texts


def greedy_chain() -> Any:
    """Make llama.cpp's greedy sampler."""
    chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
    llama.llama_sampler_chain_add(chain, llama.llama_sampler_init_greedy())
    return chain


def laws(sampler: LlamaCppSampler, path: Path, vocab_size: int) -> dict[str, Any]:
    """Draw two tokens after one prompt, n = ROWS x RUNS times by each, under each setting."""
    model, context = load(path, sequences=ROWS)
    prompts = [PROMPT] * ROWS
    answer = {}
    for name, fields in LAWS.items():
        samples: list[list[list[int]]] = [[], []]
        for run in range(RUNS):
            first = SEED + run * ROWS
            chains = [chain_of(fields, PROMPT, vocab_size, first + row) for row in range(ROWS)]
            samples[0] += theirs(context, prompts, chains, 2)
            samples[1] += sampler.generate(context, prompts, ours(fields), max_tokens=2, seed=SEED + run)
        answer[name] = samples
    llama.llama_free(context)
    llama.llama_model_free(model)
    return answer


def in_place(context: Any, prompts: list[list[int]]) -> bool:
    """Say whether every row of the loop is the memory that llama.cpp has it in."""
    places = []

    def draw(outputs: Any) -> Any:
        for row, position in zip(outputs.logits, outputs.positions, strict=True):
            pointer = llama.llama_get_logits_ith(context, position)
            places.append(ctypes.addressof(pointer.contents) == row.ctypes.data)
        return outputs.logits.argmax(axis=1)

    list(decode_loop(context, prompts, draw, max_tokens=3))
    return len(places) == 3 * len(prompts) and all(places)


def main() -> None:
    """Run all of it."""
    answer: dict[str, Any] = {"greedy": {}}
    small, large, ended = (Path(folder) / f"{name}.gguf" for name in ("small", "large", "ended"))
    shape = {"layers": 2, "hidden": 64, "feed_forward": 128, "heads": 4, "kv_heads": 2, "head_size": 16, "scale": 0.15}
    write_model(small, Shape(vocab_size=24, **shape), seed=SEED, end=23)
    write_model(large, Shape(vocab_size=500, **shape), seed=SEED, end=499)
    prompts = [[11, 12, 13], [21], [31, 32, 31, 32, 31, 34, 35]]
    with LlamaCppSampler(address, shared_memory_prefix=prefix) as sampler:
        answer["laws"] = laws(sampler, small, 24)
        _, context = load(large, sequences=len(prompts))
        plain = theirs(context, prompts, [greedy_chain() for _ in prompts], 12)
        answer["llama.cpp's greedy sampler"] = plain
        for name, given in GREEDY.items():
            own = {"logit_bias": [[plain[0][0], -9.0]]} if "logit_bias" in given else given
            fields = {"temperature": 0.0, **own}
            chains = [chain_of(fields, prompt, 500, SEED) for prompt in prompts]
            pair = [theirs(context, prompts, chains, 12)]
            answer["greedy"][name] = [*pair, sampler.generate(context, prompts, ours(fields), max_tokens=12)]
        answer["in place"] = in_place(context, prompts)

        params = ours({"repetition_penalty": 1.1})
        seeds = [4, 5, 6]
        answer["seeded"] = [sampler.generate(context, prompts, params, max_tokens=8, seed=own) for own in (7, 7, 8)]
        together = sampler.generate(context, prompts, params, max_tokens=8, seed=seeds)
        alone = sampler.generate(context, prompts[1:2], params, max_tokens=8, seed=seeds[1:2])
        answer["alone"] = [together[1], alone[0]]
        _, narrow = load(large, sequences=len(prompts), n_batch=4)
        answer["in small batches"] = sampler.generate(narrow, prompts, params, max_tokens=8, seed=7)

        # The same weights, and the third token of the second text ends a text.
        write_model(ended, Shape(vocab_size=500, **shape), seed=SEED, end=plain[1][2])
        _, context = load(ended, sequences=len(prompts))
        pair = [theirs(context, prompts, [greedy_chain() for _ in prompts], 12)]
        answer["ended"] = [*pair, sampler.generate(context, prompts, ours({"temperature": 0.0}), max_tokens=12)]
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
