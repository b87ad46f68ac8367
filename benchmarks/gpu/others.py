"""What others take to draw one token from each row of a batch that lies on the card."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["flashinfer_times", "torch_times"]

_DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
_REPEATS = 50


def _median_us(action: Callable[[], object]) -> float:
    """Microseconds of one call, by events: the median of seven rounds."""
    for _ in range(10):
        action()
    times = []
    for _ in range(7):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        begin.record()
        for _ in range(_REPEATS):
            action()
        end.record()
        end.synchronize()
        times.append(float(begin.elapsed_time(end)) * 1e3 / _REPEATS)
    return sorted(times)[3]


def _logits(rows: int, width: int, dtype: str) -> torch.Tensor:
    return torch.randn(rows, width, device="cuda").mul_(3).to(_DTYPES[dtype])


def torch_times(rows: int, width: int, dtype: str) -> dict[str, float]:
    """Softmax and multinomial, as people write them; nothing without a torch that has CUDA."""
    if not torch.cuda.is_available():
        return {}
    x = _logits(rows, width, dtype)
    return {
        "torch: softmax, multinomial": _median_us(lambda: torch.multinomial(torch.softmax(x.float() / 0.8, -1), 1)),
        "torch: largest of each row": _median_us(lambda: x.amax(-1)),
    }


def flashinfer_times(rows: int, width: int, dtype: str) -> dict[str, float]:
    """Draws of FlashInfer, where it is installed."""
    try:
        sampling: Any = import_module("flashinfer").sampling
    except ImportError:
        return {}
    x = _logits(rows, width, dtype).float()
    return {
        "FlashInfer: from logits": _median_us(lambda: sampling.sampling_from_logits(x)),
        "FlashInfer: top_k 50, top_p 0.9": _median_us(
            lambda: sampling.top_k_top_p_sampling_from_logits(x, top_k=50, top_p=0.9)
        ),
    }
