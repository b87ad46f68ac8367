"""What every field costs, beside its price and beside as many bytes of plain sampling.

Each case is one request under the limits, drawn by the compiled sampler on one thread; time is that thread's own. Its
*worth* is what plain sampling of as many bytes takes: a plain request of the same rows and samples, every item of a
list as one more number read, every other number of the reply as one more sample drawn. The promise: no request costs
more than twenty times its worth. Beside it stands the price, by which the server predicts it (`sampling/price.py`).
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from benchmarks.scenario import Options, Result, Scenario, Table, Target
from samplerd_server.batching.pack import pack
from samplerd_server.core.enums import Dtype, InputKind, LogprobKind
from samplerd_server.core.outputs import OutputFlags, Outputs
from samplerd_server.core.params import Dry, SamplingParams
from samplerd_server.core.request import SampleRequest
from samplerd_server.core.rows import CandidateRow, CandidateRows, DenseRows
from samplerd_server.sampling.choose import choose_sampler
from samplerd_server.sampling.parameters.record import LISTS, lists_of
from samplerd_server.sampling.price import work_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.report import Progress
    from samplerd_server.sampling.sampler import Sampler

__all__ = ["SCENARIO"]

NOTE = "compiled sampler, one thread, milliseconds of its own time; worth: as many bytes of plain sampling"
_BOUND = 20.0
_IDS = 1 << 18
"""The limit of ids in a list."""
_KINDS = tuple(LogprobKind)


class _Case(NamedTuple):
    name: str
    request: SampleRequest


def _outputs(*kinds: LogprobKind, **fields: Any) -> Outputs:
    flags = OutputFlags(sum(OutputFlags.RAW << (kind - 1) for kind in kinds))
    flags |= OutputFlags(sum(OutputFlags.ENTROPY_RAW << (kind - 1) for kind in fields.get("entropy", ())))
    flags |= OutputFlags.RANK * bool(fields.get("rank")) | OutputFlags.KEPT * bool(fields.get("kept"))
    return Outputs(logprobs=kinds, output_flags=OutputFlags(flags), **fields)


def _dense(rows: int, width: int, dtype: Dtype = Dtype.F32, *, is_flat: bool = False) -> DenseRows:
    numbers = np.random.default_rng(1).normal(size=(rows, width)).astype(np.float32) * (0 if is_flat else 3)
    data = numbers.astype(np.float16).tobytes() if dtype is Dtype.F16 else numbers.tobytes()
    return DenseRows(dtype=dtype, rows=rows, vocab_size=width, data=data)


def _weights(rows: int, width: int) -> DenseRows:
    numbers = np.exp(np.random.default_rng(1).normal(size=(rows, width)) * 3).astype(np.float32)
    return DenseRows(dtype=Dtype.F32, rows=rows, vocab_size=width, data=numbers.tobytes())


def _sparse(width: int) -> CandidateRows:
    rng = np.random.default_rng(1)
    ids = np.sort(rng.choice(2 * width, width, replace=False)).astype(np.int32)
    row = CandidateRow(ids=ids, logits=rng.normal(size=width).astype(np.float32), rest_logsumexp=-np.inf)
    return CandidateRows(vocab_size=2 * width, candidates=(row,))


def _request(source: DenseRows | CandidateRows, **fields: Any) -> SampleRequest:
    own = fields.pop("params", {})
    params = SamplingParams(**own, is_plain=own.keys() <= {"temperature"})
    return SampleRequest(**{"id": 1, "source": source, "params": (params,), "seed": 1, **fields})


def _cases(scale: int) -> Iterator[_Case]:
    """Every field, at or near its limit. `scale` divides the sizes for a quick run."""
    v, large, rows, ids = 131_072 // scale, 4_000_000 // scale, 4096 // scale, _IDS // scale
    samples = (1 << 20) // scale
    rng = np.random.default_rng(2)
    tokens = rng.integers(0, v, ids).astype(np.int32)
    distinct = rng.permutation(v).astype(np.int32)
    few = rng.integers(0, 2, ids).astype(np.int32)
    one, many = _dense(1, v), _dense(rows, 256)
    filters: dict[str, dict[str, Any]] = {
        "top_k": {"top_k": 50},
        "top_p": {"top_p": 0.95},
        "min_p": {"min_p": 0.01},
        "typical_p": {"typical_p": 0.9},
        "eta_cutoff": {"eta_cutoff": 1e-3},
        "epsilon_cutoff": {"epsilon_cutoff": 1e-6},
        "top_n_sigma": {"top_n_sigma": 1.0},
        "xtc": {"xtc_probability": 1.0, "xtc_threshold": 0.001},
        "dynamic temperature": {"dynamic_temperature_range": 0.5},
        "all filters": {"typical_p": 0.99, "top_p": 0.999, "eta_cutoff": 1e-6, "top_a": 1e-4, "epsilon_cutoff": 1e-9},
    }
    for name, own in filters.items():
        yield _Case(name, _request(one, params=own))
        yield _Case(f"{name}, large", _request(_dense(1, large), params=own))
    yield _Case("typical_p, flat, large", _request(_dense(1, large, is_flat=True), params={"typical_p": 0.9}))
    probabilities = {"kind": InputKind.PROBABILITIES}
    yield _Case("weights, T = 0.7", _request(_weights(1, v), params={"temperature": 0.7}, **probabilities))
    yield _Case(
        "weights, T = 0.7, draws",
        _request(_weights(1, v), params={"temperature": 0.7}, num_samples=samples, **probabilities),
    )
    yield _Case("weights, typical_p", _request(_weights(1, large), params={"typical_p": 0.95}, **probabilities))
    guided = {"guidance_scale": 1.5}
    yield _Case("guidance", _request(one, guidance=one, params=guided))
    yield _Case("guidance, large", _request(_dense(1, large), guidance=_dense(1, large), params=guided))
    yield _Case("guidance, many rows", _request(many, guidance=many, params=guided))
    yield _Case("guidance, weights", _request(_weights(1, v), guidance=_weights(1, v), params=guided, **probabilities))
    yield _Case("f16", _request(_dense(1, v, Dtype.F16)))
    yield _Case("greedy, draws", _request(_dense(1, large), params={"temperature": 0.0}, num_samples=samples))
    yield _Case("without replacement", _request(_dense(1, large), num_samples=samples, with_replacement=False))
    yield _Case("history", _request(one, params={"history": tokens, "frequency_penalty": 1.0}))
    yield _Case(
        "dry",
        _request(one, params={"history": distinct, "dry": Dry(multiplier=1.0)}),
    )
    repeats = np.resize(np.arange(3, dtype=np.int32), ids)
    yield _Case("dry, repeats", _request(one, params={"history": repeats, "dry": Dry(multiplier=1.0)}))
    yield _Case("history shared by many rows", _request(many, params={"history": few, "frequency_penalty": 1.0}))
    yield _Case(
        "dry shared by many rows",
        _request(_dense(rows // 16, 256), params={"history": few, "dry": Dry(multiplier=1.0)}),
    )
    yield _Case("allowed_tokens shared by many rows", _request(many, params={"allowed_tokens": np.unique(few)}))
    bias = {"bias_ids": distinct, "bias_values": np.ones(v, np.float32)}
    yield _Case("logit_bias", _request(one, params=bias))
    yield _Case("allowed_tokens", _request(one, params={"allowed_tokens": tokens}))
    yield _Case("token_bitmask", _request(one, params={"token_bitmask": rng.bytes(v // 8)}))
    yield _Case("candidates", _request(_sparse(large // 4)))
    yield _Case("candidates, logit_bias", _request(_sparse(v), params=bias))
    yield _Case("candidates, named ids", _request(_sparse(v), outputs=_outputs(*_KINDS, logprob_ids=tokens)))
    yield _Case("logprobs", _request(one, outputs=_outputs(*_KINDS)))
    yield _Case("logprobs, draws", _request(one, outputs=_outputs(*_KINDS), num_samples=samples))
    yield _Case("entropies", _request(one, outputs=_outputs(entropy=_KINDS)))
    yield _Case("kept", _request(one, params={"top_p": 0.9}, outputs=_outputs(kept=True)))
    yield _Case("rank", _request(one, outputs=_outputs(rank=True)))
    yield _Case("rank, draws", _request(one, outputs=_outputs(rank=True), num_samples=samples))
    yield _Case("rank, large", _request(_dense(1, large), outputs=_outputs(rank=True), num_samples=1000 // scale))
    yield _Case("top_n", _request(one, outputs=_outputs(*_KINDS, top_n=1024)))
    yield _Case("top_n, large", _request(_dense(1, large), outputs=_outputs(*_KINDS, top_n=1024)))
    yield _Case("top_n, many rows", _request(many, outputs=_outputs(*_KINDS, top_n=256)))
    yield _Case("named ids", _request(one, outputs=_outputs(*_KINDS, logprob_ids=tokens)))
    yield _Case("named ids, many rows", _request(many, outputs=_outputs(*_KINDS, logprob_ids=few[:1024])))


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
    source, outputs, params = request.source, request.outputs, request.params[0]
    rows = source.rows
    if isinstance(source, CandidateRows):  # a number and an id are two numbers
        source = _dense(1, 2 * len(source.candidates[0].ids))
    plain = replace(
        request,
        source=source,
        params=(SamplingParams(),),
        kind=InputKind.LOGITS,
        with_replacement=True,
        outputs=Outputs(),
        guidance=None,
    )
    items = sum(0 if own is None else len(own) // unit.unit for unit, own in zip(LISTS, lists_of(params), strict=True))
    named = 0 if outputs.logprob_ids is None else len(outputs.logprob_ids)
    values = request.samples * (len(outputs.logprobs) + outputs.rank)
    values += rows * (len(outputs.logprobs) * (2 * outputs.top_n + named) + len(outputs.entropy) + 2 * outputs.kept)
    seconds = (
        _seconds(sampler, plain, repeats)
        if request.kind is InputKind.LOGITS
        else (rows * source.vocab_size * per_number + request.samples * per_draw)
    )
    guidance = 0 if request.guidance is None else rows * request.guidance.vocab_size
    return seconds + (items + named + guidance) * per_number + values * per_draw


def run(progress: Progress, options: Options) -> Result:
    """Measure every case."""
    scale, repeats = (16, 1) if options.quick else (1, 3)
    sampler = choose_sampler("cpu", "numba", 1)
    sampler.warm_up()
    one = _request(_dense(1, 131_072))
    row_s = _seconds(sampler, one, 9)
    draws_s = _seconds(sampler, replace(one, num_samples=20_001), 5)
    per_number, per_draw = row_s / 131_072, (draws_s - row_s) / 20_000
    cells: list[Result] = []
    for name, request in _cases(scale):
        seconds = _seconds(sampler, request, repeats)
        worth = _worth(sampler, request, per_number, per_draw, repeats)
        price = 1e-9 * work_of(
            request.source,
            request.num_samples,
            request.params,
            request.kind,
            request.with_replacement,
            request.outputs,
        )
        cells.append({"case": name, "ms": 1e3 * seconds, "worth_ms": 1e3 * worth, "price_ms": 1e3 * price})
        progress(f"  {name}: {1e3 * seconds:.2f} ms, {seconds / worth:.1f} x its worth, {seconds / price:.2f} x price")
    return {
        "note": NOTE,
        "scale": scale,
        "number_ns": 1e9 * per_number,
        "draw_ns": 1e9 * per_draw,
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
    """Hold every case against twenty times its worth."""
    for cell in result["cells"]:
        yield Target(
            what=f"{cell['case']}, cost over as many bytes of plain sampling",
            value=cell["ms"] / cell["worth_ms"],
            bound=_BOUND,
            at_most=True,
        )


SCENARIO = Scenario(run=run, table=table, targets=targets)
