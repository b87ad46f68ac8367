"""Lists at their limits: what a row with long lists costs beside plain sampling of as many numbers.

The compiled sampler by itself, one row of V = 262,144 categories (or candidates), one draw. Each list is as long as
limits.max_ids_per_list lets it be, and made of what its search might take longest for. A list of n ids is held against
a plain row of n numbers; what a plain row of the same V takes is left out. Times are those of the thread, so that other
work on the machine counts little.
"""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from benchmarks.scenario import Options, Result, Scenario, Table, Target
from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.batching.pack import pack
from samplerd_server.core.enums import Dtype
from samplerd_server.core.params import Dry, SamplingParams
from samplerd_server.core.request import SampleRequest
from samplerd_server.core.rows import CandidateRow, CandidateRows, DenseRows
from samplerd_server.sampling.kernels import NumbaSampler

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from benchmarks.report import Progress
    from samplerd_server.sampling.rows import RowBatch

__all__ = ["SCENARIO"]

_IDS = 1 << 18
"""The default of limits.max_ids_per_list."""
_BOUND = 20.0
"""Lists cost at most this many times what plain sampling of as many numbers does."""


class _Case(NamedTuple):
    name: str
    params: SamplingParams
    lists: int
    """Ids in all lists."""


def _params(**fields: Any) -> SamplingParams:
    return SamplingParams(is_plain=False, **fields)


def _sequences(name: str, sequences: Sequence[NDArray[np.int32]]) -> dict[str, Any]:
    ends = np.cumsum([len(own) for own in sequences]).astype(np.int32)
    return {f"{name}_ids": np.concatenate(sequences), f"{name}_ends": ends}


def _ladder(size: int) -> list[NDArray[np.int32]]:
    """Sequences 0 .. 0 1 of every length, with about `size` tokens in all."""
    steps: list[NDArray[np.int32]] = []
    while size > len(steps) + 2:
        steps.append(np.append(np.zeros(len(steps) + 1, np.int32), np.int32(1)))
        size -= len(steps[-1])
    return steps


def _cases(size: int) -> Iterator[_Case]:
    random = np.random.default_rng(1)
    zeros, any_ids = np.zeros(size, np.int32), random.integers(0, size, size).astype(np.int32)
    every = random.permutation(size).astype(np.int32)
    pairs = [np.array([1, token], np.int32) for token in range(size // 2)]
    long = np.append(zeros[1:], np.int32(1))
    yield _Case("penalties", _params(history=any_ids, repetition_penalty=1.1, frequency_penalty=0.1), size)
    yield _Case("allowed_tokens", _params(allowed_tokens=every[: size // 2]), size // 2)
    bias = random.normal(size=size).astype(np.float32)
    yield _Case("logit_bias", _params(bias_ids=every, bias_values=bias), 2 * size)
    for name, history in (("any tokens", any_ids), ("one token", zeros), ("a period", np.resize(every[:1000], size))):
        yield _Case(f"DRY, history of {name}", _params(history=history, dry=Dry(multiplier=0.8)), size)
        yield _Case(f"n-grams of 2, history of {name}", _params(history=history, no_repeat_ngram_size=2), size)
        ngrams = _params(history=history, no_repeat_ngram_size=size // 2)
        yield _Case(f"n-grams of {size // 2:,}, history of {name}", ngrams, size)
    single = Dry(multiplier=0.8, sequence_breakers=np.flip(every[every > 0]).copy())
    yield _Case("DRY, breakers", _params(history=zeros, dry=single), 2 * size)
    for name, sequences in (("of two tokens", pairs), ("of all lengths", _ladder(size)), ("of one sequence", [long])):
        dry = Dry(multiplier=0.8, **_sequences("breaker_sequences", sequences))
        yield _Case(f"DRY, breaker_sequences {name}", _params(history=zeros, dry=dry), 2 * size)
        words = _sequences("bad_words", sequences)
        yield _Case(f"bad_words {name}", _params(history=zeros, **words), 2 * size)


def _batch(size: int, params: SamplingParams, numbers: int | None = None) -> RowBatch:
    data = np.random.default_rng(2).normal(size=numbers or size).astype(np.float32)
    source = DenseRows(dtype=Dtype.F32, rows=1, vocab_size=len(data), data=data.tobytes())
    return pack([SampleRequest(id=1, source=source, params=(params,))])


def _slow_order(size: int) -> NDArray[np.int32]:
    """Arrange ids so that a quicksort by the median of three takes quadratic time (Musser, 1997)."""
    half = size // 2
    order = np.empty(2 * half, np.int32)
    order[:half:2] = np.arange(half)[::2]
    order[1:half:2] = half + np.arange(half)[::2][: len(order[1:half:2])]
    rest = np.setdiff1d(np.arange(2 * half), order[:half])
    order[half:] = rest
    return order


def _candidates(size: int) -> RowBatch:
    logits = np.random.default_rng(3).normal(size=size).astype(np.float32)
    row = CandidateRow(ids=_slow_order(size), logits=logits, rest_logsumexp=-np.inf)
    source = CandidateRows(vocab_size=size, candidates=(row,))
    return pack([SampleRequest(id=1, source=source, params=(_params(top_k=5),))])


def _seconds(sampler: NumbaSampler, batch: RowBatch, rounds: int) -> float:
    times = []
    for _ in range(rounds):
        began = time.thread_time()
        results = sampler.sample(batch)
        times.append(time.thread_time() - began)
        assert results.status[0] == 0, "a row of the benchmark cannot be drawn. This is a bug."
    return median(times)


def _wire_bytes(params: SamplingParams) -> int:
    """Count the bytes that the lists take in a request."""
    message = pb.SamplingParams()
    for name in ("history", "allowed_tokens"):
        ids = getattr(params, name)
        if ids is not None:
            getattr(message, name).extend(ids.tolist())
    if params.bias_ids is not None and params.bias_values is not None:
        for token, amount in zip(params.bias_ids.tolist(), params.bias_values.tolist(), strict=True):
            message.logit_bias.add(id=token, bias=amount)
    for target, own, name in ((message.bad_words, params, "bad_words"), *_of_dry(message, params)):
        ids, ends = getattr(own, f"{name}_ids"), getattr(own, f"{name}_ends")
        begin = 0
        for end in [] if ends is None else ends.tolist():
            target.add(ids=ids[begin:end].tolist())
            begin = end
    if params.dry is not None and params.dry.sequence_breakers is not None:
        message.dry.sequence_breakers.extend(params.dry.sequence_breakers.tolist())
    return message.ByteSize()


def _of_dry(message: pb.SamplingParams, params: SamplingParams) -> list[tuple[Any, Any, str]]:
    return [] if params.dry is None else [(message.dry.breaker_sequences, params.dry, "breaker_sequences")]


def run(progress: Progress, options: Options) -> Result:
    """Measure each list; `table` lays it out."""
    size, rounds = (1 << 14 if options.quick else _IDS), (3 if options.quick else 9)
    sampler = NumbaSampler(1)
    sampler.warm_up()
    plain = _seconds(sampler, _batch(size, SamplingParams()), 5 * rounds)
    lines = []
    as_many = {n: _seconds(sampler, _batch(size, SamplingParams(), n), 5 * rounds) for n in (size // 2, size, 2 * size)}
    for case in _cases(size):
        seconds = _seconds(sampler, _batch(size, case.params), rounds)
        own = max(0.0, seconds - plain)
        lines.append(_line(case.name, case.lists, _wire_bytes(case.params), seconds, own / as_many[case.lists]))
        progress(f"  {case.name}: {1e3 * seconds:.2f} ms, {lines[-1]['ratio']:.1f} x")
    seconds = _seconds(sampler, _candidates(size), rounds)
    name = "candidates in an order that is slow to sort"
    lines.append(_line(name, 2 * size, 8 * size, seconds, seconds / as_many[2 * size]))
    return {"ids": size, "plain_us": plain * 1e6, "lists": lines}


def _line(name: str, numbers: int, wire_bytes: int, seconds: float, ratio: float) -> dict[str, Any]:
    return {"name": name, "numbers": numbers, "bytes": wire_bytes, "row_us": seconds * 1e6, "ratio": ratio}


def table(result: Result) -> Table:
    """Lay the figures out: header and rows."""
    header = ["lists", "numbers", "bytes in a request", "ms a row", "ratio"]
    return header, [
        [
            line["name"],
            f"{line['numbers']:,}",
            f"{line['bytes']:,}",
            f"{line['row_us'] / 1e3:,.2f}",
            f"{line['ratio']:.1f}",
        ]
        for line in result["lists"]
    ]


def targets(result: Result) -> Iterator[Target]:
    """Hold every list against the bound."""
    for line in result["lists"]:
        yield Target(what=f"lists: {line['name']}", value=line["ratio"], bound=_BOUND, at_most=True)


SCENARIO = Scenario(run=run, table=table, targets=targets)
