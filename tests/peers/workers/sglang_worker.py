"""SGLang: its penalizers, and the sampler of its pytorch backend, which gives the weights that it draws from.

torchvision is stubbed: SGLang imports it for models, and its build for PyPI does not load beside a torch without CUDA.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import types
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers.utils


class _Stub(types.ModuleType):
    __path__ = ()

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        is_ours = name.split(".", maxsplit=1)[0] == "torchvision"
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if is_ours else None

    def create_module(self, spec: Any) -> types.ModuleType:
        return _Stub(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing to execute."""


assert not transformers.utils.is_torchvision_available()  # cached, so that the stub is not asked
sys.meta_path.insert(0, _Finder())
from protocol import serve, weights  # noqa: E402
from sglang.kernels.ops.sampling import softmax  # noqa: E402
from sglang.srt.layers.sampler import top_k_top_p_min_p_sampling_from_probs_torch  # noqa: E402
from sglang.srt.sampling import penaltylib  # noqa: E402
from sglang.srt.sampling.penaltylib.repetition_penalty import apply_scaling_penalties  # noqa: E402
from sglang.srt.sampling.sampling_params import SamplingParams  # noqa: E402

SETTINGS = {
    *("temperature", "top_k", "top_p", "min_p"),
    *("repetition_penalty", "frequency_penalty", "presence_penalty"),
}
PENALIZERS = {
    penaltylib.BatchedFrequencyPenalizer,
    penaltylib.BatchedPresencePenalizer,
    penaltylib.BatchedRepetitionPenalizer,
}


@dataclass
class Request:
    """What a penalizer reads of a request."""

    sampling_params: SamplingParams


@dataclass(eq=False)
class Batch:
    """What a penalizer reads of a batch."""

    reqs: list[Request]
    device: str = "cpu"


def penalise(logits: torch.Tensor, request: SamplingParams, output: list[int]) -> None:
    """Apply the penalties in place, as in the overlap mode, which is the default: additive ones first."""
    batch = Batch(reqs=[Request(sampling_params=request)])
    orchestrator = penaltylib.BatchedPenalizerOrchestrator(logits.shape[1], batch, PENALIZERS)
    if not orchestrator.is_required:
        return
    for token in output:
        orchestrator.cumulate_output_tokens(torch.tensor([token]))
    additive = torch.zeros_like(logits)
    orchestrator.accumulate_additive_penalties(additive)
    logits.add_(additive)
    scaling = orchestrator.accumulate_scaling_penalties()
    if scaling is not None:
        apply_scaling_penalties(logits, scaling)


def process(row: np.ndarray, params: dict[str, Any]) -> np.ndarray:
    """Run the penalties and the sampler on one row."""
    params.pop("defaults", False)  # those of SamplingParams are taken anyway
    request = SamplingParams(**{name: params[name] for name in SETTINGS if name in params})
    logits = torch.from_numpy(row)[None]
    penalise(logits, request, params.get("history", [])[params.get("prompt_length", 0) :])
    for token, bias in params.get("logit_bias", []):
        logits[0, token] += bias
    probs = softmax(logits.div_(torch.tensor([[request.temperature]])))
    if not {"top_k", "top_p", "min_p"} & params.keys() and request.temperature == params.get("temperature", 1.0):
        return weights(logits.numpy())
    _, kept, ids, _ = top_k_top_p_min_p_sampling_from_probs_torch(
        probs,
        torch.tensor([request.top_k], dtype=torch.int32),
        torch.tensor([request.top_p]),
        torch.tensor([request.min_p]),
        request.min_p > 0,
        None,
        torch.zeros(1),
        return_filtered_probs=True,
    )
    answer = np.zeros(len(row))
    answer[ids[0].numpy()] = kept[0].numpy()
    return answer


if __name__ == "__main__":
    torch.set_num_threads(1)
    serve(process, {*SETTINGS, "logit_bias", "history", "prompt_length", "defaults"})
