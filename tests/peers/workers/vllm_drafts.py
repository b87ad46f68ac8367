"""Runs in the environment of vLLM: verifies drafts with its rejection sampler.

    python vllm_drafts.py DRAFTS.npz VERDICTS.npy

DRAFTS.npz holds target, float32[N, n + 1, V] logits; ids, int32[N, n]; and where they are used draft, float32[N, n, V]
probabilities; uniforms, float64[N, n], which decide the acceptance in place of its own; temperature, top_k and top_p,
one number for all. VERDICTS.npy receives int32[N, n + 1]: the tokens that came out, then -1.

The sampler's kernels are written in Triton, and there is no other implementation of them in vLLM. Triton's own
interpreter runs them here, on the CPU: the code that runs is vLLM's, statement by statement. Filters are those of its
torch functions. Rule: this file imports nothing of the project.
"""

from __future__ import annotations

import os
import sys
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # vLLM takes Triton for usable without a device only where devices are hidden

import numpy as np
import torch
from vllm.v1.sample import rejection_sampler
from vllm.v1.sample.logits_processor import LogitsProcessors
from vllm.v1.sample.metadata import SamplingMetadata
from vllm.v1.sample.ops import topk_topp_sampler
from vllm.v1.sample.rejection_sampler import RejectionSampler
from vllm.v1.sample.sampler import Sampler
from vllm.v1.spec_decode.metadata import SpecDecodeMetadata

BATCH = 500


def sampling_metadata(count: int, numbers: dict[str, Any]) -> SamplingMetadata:
    """The parameters of `count` sequences; what is not among the numbers is off."""

    def spread(name: str, dtype: torch.dtype) -> torch.Tensor | None:
        return torch.full((count,), numbers[name].item(), dtype=dtype) if name in numbers else None

    temperature = float(numbers.get("temperature", 1.0))
    return SamplingMetadata(
        temperature=torch.full((count,), temperature),
        all_greedy=temperature == 0,
        all_random=temperature > 0,
        top_p=spread("top_p", torch.float32),
        top_k=spread("top_k", torch.int32),
        generators={},
        max_num_logprobs=None,
        no_penalties=True,
        prompt_token_ids=None,
        frequency_penalties=torch.zeros(count),
        presence_penalties=torch.zeros(count),
        repetition_penalties=torch.ones(count),
        output_token_ids=[[] for _ in range(count)],
        allowed_token_ids_mask=None,
        bad_words_token_ids={},
        logitsprocs=LogitsProcessors(),
    )


def verify(sampler: RejectionSampler, drafts: dict[str, Any], part: slice) -> torch.Tensor:
    """Verify some of the drafts as one batch."""
    target, ids = torch.from_numpy(drafts["target"][part]), drafts["ids"][part]
    count, length = ids.shape
    metadata = SpecDecodeMetadata.make_dummy(ids.tolist(), torch.device("cpu"))
    rows = torch.arange(count * (length + 1)).reshape(count, length + 1)
    metadata.target_logits_indices = rows[:, :-1].flatten()
    metadata.bonus_logits_indices = rows[:, -1]
    draft = torch.from_numpy(drafts["draft"][part]).flatten(0, 1) if "draft" in drafts else None
    if "uniforms" in drafts:
        uniforms = torch.from_numpy(drafts["uniforms"][part]).flatten()
        rejection_sampler.generate_uniform_probs = lambda *_: uniforms
    return sampler(metadata, draft, target.flatten(0, 1), sampling_metadata(count, drafts)).sampled_token_ids


def main() -> None:
    """Verify all drafts of the first file and write the tokens to the second."""
    topk_topp_sampler.HAS_TRITON = False
    torch.manual_seed(0)
    torch.set_num_threads(1)
    with np.load(sys.argv[1]) as file:
        drafts = dict(file)
    sampler = RejectionSampler(Sampler())
    parts = [slice(begin, begin + BATCH) for begin in range(0, len(drafts["ids"]), BATCH)]
    np.save(sys.argv[2], torch.cat([verify(sampler, drafts, part) for part in parts]).numpy())


if __name__ == "__main__":
    main()
