"""Times the loop of llama-cpp-python: with an argmax, with llama.cpp's own chain, and with samplerd; prints JSON.

Run by the scenario `engines` in an environment that has llama-cpp-python and gguf, with one JSON object as its only
argument. All three ways are one loop, `decode_loop`, and differ in the function that draws. A step is timed from one
draw to the next, so that it is the model and the sampling.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llama_cpp as llama
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["main"]

PROMPT = 16
SEED = 1
WAYS = ("argmax", "own", "samplerd")
PENALTY_RANGE = 64
"""Of llama.cpp by default: its penalties look at this many tokens."""


def _context(model: Any, sequences: int, threads: int) -> Any:
    settings = llama.llama_context_default_params()
    settings.n_ctx, settings.n_seq_max = 128 * sequences, sequences
    settings.n_threads = settings.n_threads_batch = threads
    return llama.llama_init_from_model(model, settings)


def _argmax(outputs: Any) -> Any:
    return outputs.logits.argmax(axis=1)


def _chain(prompt: list[int], seed: int, asked: dict[str, Any]) -> Any:
    """Make llama.cpp's own chain, in its order: penalties, top-k, top-p, temperature, and the draw."""
    own = asked["settings"]
    chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
    for sampler in (
        llama.llama_sampler_init_penalties(
            asked["shape"]["vocab_size"], PENALTY_RANGE, own["repetition_penalty"], 0.0, 0.0
        ),
        llama.llama_sampler_init_top_k(own["top_k"]),
        llama.llama_sampler_init_top_p(own["top_p"], 1),
        llama.llama_sampler_init_temp(own["temperature"]),
        llama.llama_sampler_init_dist(seed),
    ):
        llama.llama_sampler_chain_add(chain, sampler)
    for token in prompt:
        llama.llama_sampler_accept(chain, token)
    return chain


def _steps(drawn: Iterator[tuple[int, int]]) -> list[float]:
    """Run a loop, and return the seconds from each step's first token to that of the next."""
    times = [time.perf_counter() for sequence, _ in drawn if sequence == 0]
    return [after - before for before, after in pairwise(times)]


def _with_own_chain(
    loop: Callable[..., Iterator[tuple[int, int]]],
    context: Any,
    prompts: list[list[int]],
    tokens: int,
    asked: dict[str, Any],
) -> list[float]:
    """Time the loop with llama.cpp's own chain, one for each sequence."""
    chains = [_chain(prompt, SEED + number, asked) for number, prompt in enumerate(prompts)]

    def draw(outputs: Any) -> list[int]:
        rows = zip(outputs.sequences, outputs.positions, strict=True)
        return [llama.llama_sampler_sample(chains[sequence], context, position) for sequence, position in rows]

    try:
        return _steps(loop(context, prompts, draw, max_tokens=tokens))
    finally:
        for chain in chains:
            llama.llama_sampler_free(chain)


def main() -> None:
    """Measure every batch size, the three ways in turns, and print the seconds of each step."""
    asked = json.loads(sys.argv[1])
    sys.path[:0] = asked["folders"]
    from benchmarks.engines.random_gguf import Shape, write_model  # noqa: PLC0415  # found there
    from samplerd_client import SamplingParams  # noqa: PLC0415
    from samplerd_client.integrations.llama_cpp import LlamaCppSampler  # noqa: PLC0415
    from samplerd_client.integrations.llama_cpp_loop import decode_loop  # noqa: PLC0415

    shape = Shape(**asked["shape"])
    params = SamplingParams.like("llama.cpp", min_p=0.0, penalty_range=PENALTY_RANGE, **asked["settings"])
    rng = np.random.default_rng(SEED)
    measured: dict[str, dict[str, list[list[float]]]] = {}
    with (
        tempfile.TemporaryDirectory(dir=asked["scratch"]) as folder,
        LlamaCppSampler(asked["server"], shared_memory_prefix=asked["prefix"]) as sampler,
    ):
        path = Path(folder) / "model.gguf"
        write_model(path, shape, seed=SEED, end=shape.vocab_size - 1, is_quantized=True)

        def generate(way: str, context: Any, prompts: list[list[int]], tokens: int) -> list[float]:
            if way == "samplerd":
                return _steps(sampler.stream(context, prompts, params, max_tokens=tokens, seed=SEED))
            if way == "own":
                return _with_own_chain(decode_loop, context, prompts, tokens, asked)
            return _steps(decode_loop(context, prompts, _argmax, max_tokens=tokens))

        model = llama.llama_model_load_from_file(str(path).encode(), llama.llama_model_default_params())
        for batch in asked["batches"]:
            context = _context(model, batch, asked["threads"])
            prompts = rng.integers(0, shape.vocab_size - 1, (batch, PROMPT)).tolist()
            rounds: dict[str, list[list[float]]] = {way: [] for way in WAYS}
            for number in range(1 + asked["rounds"]):
                for way, own in rounds.items():
                    steps = asked["steps"] if number else 2  # the first round meets cold caches, and is left out
                    # The first step has the prompt in it; the steps after it are those of decoding.
                    took = generate(way, context, prompts, 1 + steps)
                    if number:
                        own.append(took)
            measured[str(batch)] = rounds
            llama.llama_free(context)
            print(f"batch {batch} is done", file=sys.stderr, flush=True)
        llama.llama_model_free(model)
    print(json.dumps({"parameters": shape.parameters, "step_s": measured}))


if __name__ == "__main__":
    main()
