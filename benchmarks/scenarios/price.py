"""What every field costs, beside its price and beside as many bytes of plain sampling.

Each case is one request under the limits, drawn by the compiled sampler on one thread; time is that thread's own. Its
*worth* is what plain sampling of as many bytes takes: a plain request of the same rows and samples, every item of a
list as one more number read, every other number of the reply as one more sample drawn. The promise: no field costs more
than twenty times its worth, but for those in `price_cases.DEARER`. Beside it stands the price, by which the server
predicts it (`sampling/price.py`); `tests/unit/benchmarks/test_price_bound.py` holds prices to the same bounds.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.price_cases import bound_of, cases, dense, more_bytes, plain_of, request_of
from benchmarks.scenario import Options, Result, Scenario, Table, Target
from samplerd_server.batching.pack import pack
from samplerd_server.core.enums import InputKind
from samplerd_server.core.rows import CandidateRows
from samplerd_server.sampling.choose import choose_sampler
from samplerd_server.sampling.price import work_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.report import Progress
    from samplerd_server.core.request import SampleRequest
    from samplerd_server.sampling.sampler import Sampler

__all__ = ["SCENARIO"]

NOTE = "compiled sampler, one thread, milliseconds of its own time; worth: as many bytes of plain sampling"
_OF_PRICE = 2.5
"""How many times its price a request may take, the two compared on a plain row."""
_SHORT_MS = 0.2
"""What takes less is not held against its price."""


def _seconds(sampler: Sampler, request: SampleRequest, repeats: int) -> float:
    batch = pack([request])
    best = np.inf
    for _ in range(repeats):
        began = time.thread_time()
        results = sampler.sample(batch)
        best = min(best, time.thread_time() - began)
        if results.status.any():
            raise ValueError(f"a row failed: {results.status.max()}")
    return float(best)


def _worth(sampler: Sampler, request: SampleRequest, per_number: float, per_draw: float, repeats: int) -> float:
    """Measure as many bytes of plain sampling."""
    plain = plain_of(request)
    if request.kind is not InputKind.LOGITS or isinstance(request.source, CandidateRows):
        plain = replace(plain, source=dense(plain.source.rows, plain.source.vocab_size))  # usual ones
    seconds = _seconds(sampler, plain, repeats)
    numbers, draws = more_bytes(request)
    return seconds + numbers * per_number + draws * per_draw


def _price_s(request: SampleRequest) -> float:
    kind, with_replacement = request.kind, request.with_replacement
    price = work_of(request.source, request.num_samples, request.params, kind, with_replacement, request.outputs)
    return 1e-9 * price


def run(progress: Progress, options: Options) -> Result:
    """Measure every case."""
    scale, repeats = (16, 1) if options.quick else (1, 3)
    sampler = choose_sampler("cpu", "numba", 1)
    sampler.warm_up()
    one = request_of(dense(1, 131_072))
    row_s = _seconds(sampler, one, 9)
    draws_s = _seconds(sampler, replace(one, num_samples=20_001), 5)
    per_number, per_draw = row_s / 131_072, (draws_s - row_s) / 20_000
    cells: list[Result] = []
    for name, request in cases(scale):
        seconds = _seconds(sampler, request, repeats)
        worth = _worth(sampler, request, per_number, per_draw, repeats)
        price = _price_s(request)
        cells.append({"case": name, "ms": 1e3 * seconds, "worth_ms": 1e3 * worth, "price_ms": 1e3 * price})
        progress(f"  {name}: {1e3 * seconds:.2f} ms, {seconds / worth:.1f} x its worth, {seconds / price:.2f} x price")
    return {
        "note": NOTE,
        "scale": scale,
        "number_ns": 1e9 * per_number,
        "draw_ns": 1e9 * per_draw,
        "of_price": row_s / _price_s(one),
        "cells": cells,
    }


def table(result: Result) -> Table:
    """Lay the figures out: header and rows."""
    header = ["", "ms", "x its worth", "x its price"]
    rows = [
        [
            cell["case"],
            f"{cell['ms']:.2f}",
            f"{cell['ms'] / cell['worth_ms']:.1f}",
            f"{cell['ms'] / cell['price_ms']:.2f}",
        ]
        for cell in result["cells"]
    ]
    return header, rows


def targets(result: Result) -> Iterator[Target]:
    """Hold every case against what it may cost of its worth, and of its price."""
    for cell in result["cells"]:
        name = cell["case"]
        yield Target(
            what=f"{name}, cost over as many bytes of plain sampling",
            value=cell["ms"] / cell["worth_ms"],
            bound=bound_of(name),
            at_most=True,
        )
        if cell["ms"] > _SHORT_MS:
            ratio = cell["ms"] / cell["price_ms"] / result["of_price"]
            yield Target(what=f"{name}, time over price", value=ratio, bound=_OF_PRICE, at_most=True)


SCENARIO = Scenario(run=run, table=table, targets=targets)
