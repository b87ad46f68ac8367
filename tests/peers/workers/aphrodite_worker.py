"""Aphrodite: its torch functions for top_a, quadratic smoothing and skew, in the order in which its sampler calls them.

Each is loaded from its own file: the package as a whole imports kernels that need CUDA.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from importlib.metadata import distribution
from typing import Any

import numpy as np
import torch
from protocol import serve, weights

metadata = types.ModuleType("aphrodite.v1.sample.metadata")
metadata.SamplingMetadata = types.SimpleNamespace  # they take attributes of it, and no more
sys.modules[metadata.__name__] = metadata


def load(name: str) -> Any:
    """The function of this name in the file of this name."""
    path = distribution("aphrodite-engine").locate_file(f"aphrodite/v1/sample/ops/{name}.py")
    spec = importlib.util.spec_from_file_location(name, str(path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


TOP_A, QUADRATIC, SKEW = load("top_a"), load("quadratic"), load("skew")


def process(row: np.ndarray, params: dict[str, Any]) -> np.ndarray:
    """Run temperature, top_a, smoothing and skew on one row."""

    def one(name: str, default: float) -> torch.Tensor:
        return torch.tensor([params.get(name, default)])

    own = types.SimpleNamespace(
        top_a=one("top_a", 0.0) if "top_a" in params else None,
        quadratic_smoothing_factor=one("smoothing_factor", 0.0) if "smoothing_factor" in params else None,
        quadratic_smoothing_curve=one("smoothing_curve", 1.0),
        skew=one("skew", 0.0) if "skew" in params else None,
    )
    logits = torch.from_numpy(row)[None] / params.get("temperature", 1.0)
    return weights(SKEW(QUADRATIC(TOP_A(logits, own), own), own).numpy())


if __name__ == "__main__":
    torch.set_num_threads(1)
    serve(process, {"temperature", "top_a", "smoothing_factor", "smoothing_curve", "skew"})
