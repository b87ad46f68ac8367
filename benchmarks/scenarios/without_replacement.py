"""Draws without replacement by the compiled sampler, from few of a vocabulary to half of a long row.

Processor time of the one thread that draws, least of several rounds: other work on the machine is not counted.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.scenario import Options, Result, Scenario, Table, Target
from samplerd_server.batching.pack import pack
from samplerd_server.core.enums import Dtype
from samplerd_server.core.params import SamplingParams
from samplerd_server.core.request import SampleRequest
from samplerd_server.core.rows import DenseRows
from samplerd_server.sampling.kernels import NumbaSampler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.report import Progress

__all__ = ["SCENARIO"]

_SPREADS = {"normal": 1.0, "normal x 3": 3.0, "equal": 0.0, "normal x 1,000": 1000.0}
"""Standard deviations of the logits. Beyond some hundred, most masses lie out of each other's range of binary64."""
_CASES = ((131_072, 1), (131_072, 16), (131_072, 65_536), (4_000_000, 20_000), (4_000_000, 2_000_000))
_LONGEST = (4_000_000, 2_000_000)


def least_seconds(
    sampler: NumbaSampler, row: np.ndarray[Any, Any], draws: int, budget_s: float, **fields: Any
) -> float:
    """Least processor time of drawing, over as many rounds as the budget allows, one at least."""
    source = DenseRows(dtype=Dtype.F32, rows=1, vocab_size=len(row), data=row.tobytes())
    batch = pack([SampleRequest(id=1, source=source, params=(SamplingParams(),), num_samples=draws, seed=3, **fields)])
    best, ends = float("inf"), time.monotonic() + budget_s
    while True:
        began = time.thread_time()
        results = sampler.sample(batch)
        best = min(best, time.thread_time() - began)
        assert not results.status.any(), "a row of the benchmark failed. This is a bug."
        if time.monotonic() > ends:
            return best


def run(progress: Progress, options: Options) -> Result:
    """Measure every case on every row."""
    sampler = NumbaSampler(1)
    least_seconds(sampler, np.zeros(8, np.float32), 1, 0.0)  # compiles the one kernel that is used
    lines = []
    for name, spread in _SPREADS.items():
        for size, draws in _CASES:
            if options.quick and size * draws > 1e10:
                continue
            row = np.random.default_rng(1).normal(0, spread, size).astype(np.float32)
            budget_s = 0.1 if options.quick else 3.0
            with_ = least_seconds(sampler, row, 1, budget_s / 3)
            seconds = least_seconds(sampler, row, draws, budget_s, with_replacement=False)
            lines.append(
                {"row": name, "vocab_size": size, "draws": draws, "s": seconds, "one_with_replacement_s": with_}
            )
            progress(f"  {name}, {draws:,} of {size:,}: {seconds * 1e3:,.2f} ms")
    return {"lines": lines}


def table(result: Result) -> Table:
    """Lay the figures out: header and rows."""
    header = ["row", "V", "draws", "ms", "ns a draw", "one draw with replacement, ms"]
    return header, [
        [
            line["row"],
            f"{line['vocab_size']:,}",
            f"{line['draws']:,}",
            f"{line['s'] * 1e3:,.3f}",
            f"{line['s'] / line['draws'] * 1e9:,.0f}",
            f"{line['one_with_replacement_s'] * 1e3:,.3f}",
        ]
        for line in result["lines"]
    ]


def targets(result: Result) -> Iterator[Target]:
    """Hold few draws against one with replacement, and the longest against half a second."""
    for line in result["lines"]:
        what = f"without_replacement: {line['draws']:,} of {line['vocab_size']:,}, {line['row']}"
        if (line["vocab_size"], line["draws"]) == _LONGEST and line["row"] in {"normal", "normal x 3", "equal"}:
            yield Target(what=what, value=line["s"], bound=0.5, at_most=True, unit="s")
        if (line["vocab_size"], line["draws"]) == (131_072, 16):
            ratio = line["s"] / line["one_with_replacement_s"]
            yield Target(what=f"{what}, against one with", value=ratio, bound=1.3, at_most=True)


SCENARIO = Scenario(run=run, table=table, targets=targets)
