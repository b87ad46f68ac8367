"""What the portable sampler asks of a device for one batch: operators, copies and waits, counted on the CPU.

Each operator is a launch on a device, about 5 us whatever its size, so that their number decides what a batch of
ordinary size costs. Groups are as large here as on a GPU.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from samplerd_server.batching.pack import pack
from samplerd_server.core.enums import LogprobKind
from samplerd_server.sampling.portable import adjust, filters, load, outputs, records, sampler
from tests.support.samplers import outputs as asked_outputs
from tests.support.samplers import params, request

_VIEWS = (
    *("view", "slice", "select", "expand", "unsqueeze", "squeeze", "alias", "as_strided", "split", "unbind", "t."),
    *("transpose", "detach", "_unsafe_view", "reshape", "lift_fresh"),
)
"""Operators that launch nothing."""


class CountOperators(TorchDispatchMode):
    """Counts operators, and reads of a tensor by the host, each of which waits for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.operators: Counter[str] = Counter()
        self.waits = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__
        if name.startswith("_local_scalar"):
            self.waits += 1
        elif not name.startswith(_VIEWS):
            self.operators[name] += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture
def own(monkeypatch):
    """The sampler, with groups as large as on a GPU."""
    monkeypatch.setattr(sampler, "_GROUP_CPU", sampler._GROUP_CUDA)
    return sampler.TorchSampler("cpu", 1)


def logits(rows: int = 64, vocab_size: int = 4_096) -> np.ndarray:
    """Normal logits, whose probable ones are more than the head of the order that is listed at first."""
    return np.random.default_rng(0).normal(scale=2.0, size=(rows, vocab_size)).astype(np.float32)


def count(own, asked) -> CountOperators:
    batch = pack([asked])
    with CountOperators() as counted:
        assert not own.sample(batch).status.any()
    return counted


@pytest.mark.parametrize(
    "fields",
    [
        *({}, {"top_k": 50}, {"top_p": 0.9}, {"min_p": 0.05}, {"top_k": 50, "top_p": 0.95}),
        *({"typical_p": 0.9}, {"eta_cutoff": 1e-3}, {"top_h": 0.5}, {"xtc_threshold": 1e-4, "xtc_probability": 1.0}),
    ],
    ids=str,
)
def test_a_batch_takes_few_operators(own, fields) -> None:
    """Before rows that need all of a row ran together, one by one: 14,936 for top_p, 23,798 for typical_p."""
    counted = count(own, request(logits(), seed=3, params=params(temperature=0.8, **fields)))
    assert 0 < counted.operators.total() < 600, counted.operators.most_common(5)
    assert counted.waits == 0


def test_rows_whose_masses_underflow_run_together(own) -> None:
    """A row alone takes some hundred operators a draw, and its like must not take as many again each."""
    steep = np.tile(np.arange(0, 1_000, 100, dtype=np.float32), (40, 1))

    def total(rows: int) -> int:
        asked = request(steep[:rows], seed=3, num_samples=10, with_replacement=False, params=params())
        return count(own, asked).operators.total()

    assert total(40) < 1.2 * total(1)


@pytest.mark.parametrize("fields", [{}, {"top_k": 50, "top_p": 0.9}, {"xtc_threshold": 0.1, "xtc_probability": 0.5}])
def test_what_the_host_computes_crosses_in_the_copy_of_the_records(own, fields, monkeypatch) -> None:
    """Beside the rows themselves there is one copy to the device."""
    copies = []

    def upload(values: np.ndarray, device: torch.device) -> torch.Tensor:
        copies.append(values.shape)
        return torch.from_numpy(values)

    for module in (adjust, filters, load, outputs, records):
        if hasattr(module, "upload"):
            monkeypatch.setattr(module, "upload", upload)
    own_outputs = asked_outputs(LogprobKind.SCALED, rank=True, entropy=(LogprobKind.RAW,))
    own.sample(pack([request(logits(vocab_size=250), seed=3, params=params(**fields), outputs=own_outputs)]))
    assert len(copies) == 1


def test_nothing_else_copies_to_the_device() -> None:
    """`upload` and `stage` never wait; torch.tensor(device=...) and a copy out of pageable memory do."""
    modules = Path(sampler.__file__).parent.glob("*.py")
    found = {own.name for own in modules if "from_numpy(" in own.read_text() or "torch.tensor(" in own.read_text()}
    assert found == {"records.py"}
