"""Times `generate` of transformers: with an argmax, with its own sampling, and with samplerd; prints JSON.

Run by the scenario `engines` in an environment that has transformers, with one JSON object as its only argument. The
model has the shapes of a Qwen3 and random weights, made from its configuration: nothing is downloaded, and its texts
mean nothing. Steps are timed from one stopping check to the next, so that a step is the model and the sampling.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM, StoppingCriteria

__all__ = ["main"]

PROMPT = 16
SEED = 1


class Clock(StoppingCriteria):
    """Stops nothing, and notes when each step is done."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:  # noqa: ARG002  # as it is called
        """Note the time."""
        self.times.append(time.perf_counter())
        return torch.zeros(input_ids.shape[0], dtype=torch.bool)


def _model(asked: dict[str, Any]) -> Any:
    config = Qwen3Config(
        vocab_size=asked["vocab_size"],
        hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=asked["layers"],
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        tie_word_embeddings=True,
        eos_token_id=None,
        pad_token_id=0,
    )
    torch.manual_seed(SEED)
    return Qwen3ForCausalLM(config).eval()


def main() -> None:
    """Measure every batch size, the three ways in turns, and print the seconds of each step."""
    asked = json.loads(sys.argv[1])
    sys.path[:0] = asked["folders"]
    from samplerd_client.integrations.transformers import TransformersSampler  # noqa: PLC0415  # found there

    torch.set_num_threads(asked["threads"])
    model = _model(asked)
    measured: dict[str, dict[str, list[list[float]]]] = {}
    with TransformersSampler(asked["server"], shared_memory_prefix=asked["prefix"]) as sampler:
        for batch in asked["batches"]:
            prompt = torch.randint(0, asked["vocab_size"], (batch, PROMPT))
            ways: dict[str, Any] = {
                "argmax": lambda **own: model.generate(do_sample=False, **own),
                "own": lambda **own: model.generate(do_sample=True, **asked["settings"], **own),
                "samplerd": lambda **own: sampler.generate(
                    model, do_sample=True, seed=SEED, **asked["settings"], **own
                ),
            }
            rounds: dict[str, list[list[float]]] = {name: [] for name in ways}
            for number in range(1 + asked["rounds"]):
                for name, generate in ways.items():
                    clock = Clock()
                    steps = asked["steps"] if number else 2  # the first round meets cold caches, and is left out
                    # The first step has the prompt in it; the steps after it are those of decoding.
                    generate(input_ids=prompt, max_new_tokens=1 + steps, stopping_criteria=[clock])
                    if number:
                        rounds[name].append([b - a for a, b in zip(clock.times, clock.times[1:], strict=False)])
            measured[str(batch)] = rounds
            print(f"batch {batch} is done", file=sys.stderr, flush=True)
    print(json.dumps({"parameters": sum(own.numel() for own in model.parameters()), "step_s": measured}))


if __name__ == "__main__":
    main()
