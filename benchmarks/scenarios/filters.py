"""Rows with filters by the compiled sampler: processor time of a row, by filter, width and spread of its logits.

Processor time of the one thread that draws, least of several rounds: other work on the machine is not counted.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.scenario import Options, Result, Scenario, Table, Target
from samplerd_server.batching.pack import pack
from samplerd_server.core.enums import Dtype, InputKind, Order
from samplerd_server.core.params import SamplingParams
from samplerd_server.core.request import SampleRequest
from samplerd_server.core.rows import DenseRows
from samplerd_server.sampling.kernels import NumbaSampler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.report import Progress
    from samplerd_server.sampling.rows import RowBatch

__all__ = ["SCENARIO"]

_SIZES = ((1_024, 64), (32_768, 16), (131_072, 8))
"""Numbers in a row, and rows of a batch."""
_SPREADS = (1.0, 3.0)
"""Standard deviations of the logits."""
_CASES: dict[str, dict[str, Any]] = {
    "none": {},
    "top_k 50": {"top_k": 50},
    "top_p 0.9": {"top_p": 0.9},
    "min_p 0.05": {"min_p": 0.05},
    "top_k 50, top_p 0.9, min_p 0.05": {"top_k": 50, "top_p": 0.9, "min_p": 0.05},
    "typical_p 0.9": {"typical_p": 0.9},
    "epsilon_cutoff 3e-4": {"epsilon_cutoff": 3e-4},
    "eta_cutoff 3e-4": {"eta_cutoff": 3e-4},
    "top_n_sigma 1": {"top_n_sigma": 1.0},
    "xtc 0.05": {"xtc_probability": 1.0, "xtc_threshold": 0.05},
    "llama.cpp's defaults": {"order": Order.LLAMA_CPP, "top_k": 40, "top_p": 0.95, "min_p": 0.05},
}


def batch_of(vocab_size: int, rows: int, spread: float, fields: dict[str, Any], kind: InputKind) -> RowBatch:
    """Pack normal logits, or the weights that they are logarithms of."""
    numbers = np.random.default_rng(1).normal(0, spread, (rows, vocab_size)).astype(np.float32)
    if kind == InputKind.PROBABILITIES:
        numbers = np.exp(numbers - numbers.max(1, keepdims=True))
    source = DenseRows(dtype=Dtype.F32, rows=rows, vocab_size=vocab_size, data=numbers.tobytes())
    own = SamplingParams(temperature=0.8, is_plain=not fields, **fields)
    return pack([SampleRequest(id=1, source=source, params=(own,), seed=3, kind=kind)])


def least_seconds(sampler: NumbaSampler, batch: RowBatch, budget_s: float) -> float:
    """Least processor time of a row, over as many rounds as the budget allows, two at least."""
    best, ends = float("inf"), time.monotonic() + budget_s
    for rounds in range(1 << 30):
        began = time.thread_time()
        sampler.sample(batch)
        best = min(best, time.thread_time() - began)
        if rounds and time.monotonic() > ends:
            break
    return best / len(batch)


def run(progress: Progress, options: Options) -> Result:
    """Measure every case."""
    sampler = NumbaSampler(1)
    lines = []
    for vocab_size, rows in _SIZES:
        for spread in _SPREADS:
            cases = [(name, fields, InputKind.LOGITS) for name, fields in _CASES.items()]
            cases.append(("top_p 0.9 of weights", {"top_p": 0.9}, InputKind.PROBABILITIES))
            for name, fields, kind in cases:
                batch = batch_of(vocab_size, rows, spread, fields, kind)
                seconds = least_seconds(sampler, batch, 0.02 if options.quick else 0.7)
                lines.append({"filters": name, "vocab_size": vocab_size, "spread": spread, "s": seconds})
            progress(f"  V = {vocab_size:,}, spread {spread:g}")
    return {"lines": lines}


def table(result: Result) -> Table:
    """Lay the figures out: header and rows."""
    return ["filters", "V", "spread", "us a row"], [
        [line["filters"], f"{line['vocab_size']:,}", f"{line['spread']:g}", f"{line['s'] * 1e6:,.1f}"]
        for line in result["lines"]
    ]


def targets(result: Result) -> Iterator[Target]:
    """Hold top_k, which needs to know little of a row, against the row without filters."""
    seconds = {(line["filters"], line["vocab_size"], line["spread"]): line["s"] for line in result["lines"]}
    for spread in _SPREADS:
        ratio = seconds["top_k 50", 32_768, spread] / seconds["none", 32_768, spread]
        what = f"filters: top_k 50 against no filter, V = 32,768, spread {spread:g}"
        yield Target(what=what, value=ratio, bound=1.5, at_most=True)


SCENARIO = Scenario(run=run, table=table, targets=targets)
