"""The compiled sampler by itself against what people write in torch, and each promise as a ratio of one run.

Every pair is measured interleaved, median of several rounds, one torch thread; the same tensor on both sides.
"""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.plots import OURS, plt
from benchmarks.scenario import Options, Result, Scenario, Table, Target
from samplerd_server.batching.pack import pack
from samplerd_server.core.enums import Dtype, InputKind
from samplerd_server.core.params import SamplingParams
from samplerd_server.core.request import SampleRequest
from samplerd_server.core.rows import DenseRows
from samplerd_server.sampling.kernels import NumbaSampler
from samplerd_server.sampling.noise import uniform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from matplotlib.figure import Figure

    from benchmarks.report import Progress
    from samplerd_server.sampling.rows import RowBatch

__all__ = ["SCENARIO"]

_T = 0.7
_KPM: dict[str, Any] = {"top_k": 50, "top_p": 0.9, "min_p": 0.05}


def interleaved(rounds: int, *actions: Callable[[], object]) -> list[float]:
    """Median seconds of each action, measured in turn."""
    times: list[list[float]] = [[] for _ in actions]
    for _ in range(rounds + 1):
        for action, own in zip(actions, times, strict=True):
            began = time.perf_counter()
            action()
            own.append(time.perf_counter() - began)
    return [median(own[1:]) for own in times]


def batch_of(rows: torch.Tensor, params: tuple[SamplingParams, ...], **fields: Any) -> RowBatch:
    """Pack rows as the server does."""
    data = rows.numpy().tobytes()
    source = DenseRows(dtype=Dtype.F32, rows=rows.shape[0], vocab_size=rows.shape[1], data=data)
    return pack([SampleRequest(id=1, source=source, params=params, **fields)])


def plain_torch(rows: torch.Tensor) -> torch.Tensor:
    """Draw as people do."""
    return torch.multinomial(torch.softmax(rows / _T, -1), 1)


def sorting_torch(rows: torch.Tensor, *, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0) -> torch.Tensor:
    """Filter as people do: sort, cumulate, mask, gather."""
    values, ids = torch.sort(rows / _T, -1, descending=True)
    p = torch.softmax(values, -1)
    dropped = p.cumsum(-1) - p >= top_p
    dropped |= p < min_p * p[:, :1]
    if top_k:
        dropped[:, top_k:] = True
    return ids.gather(-1, torch.multinomial(p.masked_fill(dropped, 0.0), 1))


def filtered(**fields: Any) -> SamplingParams:
    """Parameters with filters."""
    return SamplingParams(temperature=_T, is_plain=False, **fields)


def different(count: int, vocab_size: int) -> tuple[SamplingParams, ...]:
    """Make `count` sets of parameters, all different, none dearer than the last kind."""
    history = np.arange(0, vocab_size, max(1, vocab_size // 64), dtype=np.int32)
    kinds: list[dict[str, Any]] = [
        _KPM,
        {"top_k": 40},
        {"min_p": 0.1},
        {"history": history, "repetition_penalty": 1.2},
        {"top_p": 0.9},
    ]
    return tuple(
        SamplingParams(temperature=_T + i / 1000, is_plain=False, **kinds[i % len(kinds)]) for i in range(count)
    )


class Bench:
    """Measures ratios, one line each."""

    def __init__(self, progress: Callable[[str], None], *, quick: bool) -> None:
        self.progress = progress
        self.rounds = 2 if quick else 7
        self.sampler = NumbaSampler(1)
        self.lines: list[dict[str, Any]] = []

    def line(self, name: str, times: list[float], target: str) -> None:
        """Add a ratio: the first time over the second."""
        ratio = times[0] / times[1]
        entry = {
            "name": name,
            "first_us": times[0] * 1e6,
            "second_us": times[1] * 1e6,
            "ratio": ratio,
            "target": target,
        }
        self.lines.append(entry)
        self.progress(f"  {name}: {ratio:.2f} ({target})")

    def plain(self, size: int, rows: int, target: str) -> None:
        """Measure plain draws against softmax and multinomial."""
        x = torch.randn(rows, size)
        batch = batch_of(x, (SamplingParams(temperature=_T),))
        rounds = self.rounds * (30 if rows * size < 1 << 18 else 1)
        times = interleaved(rounds, lambda: plain_torch(x), lambda: self.sampler.sample(batch))
        self.line(f"plain, {rows} x {size:,}, against multinomial", times, target)

    def filters(self, size: int) -> None:
        """Measure filters against sorting, and against each other."""
        x, flat = torch.randn(64, size), torch.rand(64, size) / 100
        few, many = batch_of(x, (filtered(**_KPM),)), batch_of(flat, (filtered(top_p=0.95),))
        sample = self.sampler.sample
        times = interleaved(3, lambda: sorting_torch(x, **_KPM), lambda: sample(few))
        self.line(f"top_k, top_p, min_p, 64 x {size:,}, against sorting", times, ">= 40")
        times = interleaved(3, lambda: sorting_torch(flat, top_p=0.95), lambda: sample(many))
        self.line(f"top_p of a flat row, 64 x {size:,}, against sorting", times, ">= 8")
        mixed, dearest = batch_of(x, different(64, size)), batch_of(x, (filtered(top_p=0.9),))
        times = interleaved(self.rounds, lambda: sample(mixed), lambda: sample(dearest))
        self.line(f"64 different parameters, {size:,}, against the dearest", times, "<= 1.5")

    def variants(self, size: int) -> None:
        """Measure what draws cost beside a plain one."""
        x = torch.randn(64, size)
        sample = self.sampler.sample
        plain = batch_of(x, (SamplingParams(temperature=_T),))
        seeded = batch_of(x, (SamplingParams(temperature=_T),), row_seeds=np.arange(64, dtype=np.uint64))
        slate = batch_of(x, (SamplingParams(temperature=_T),), num_samples=16, with_replacement=False)
        history = np.random.default_rng(1).integers(0, size, 4096).astype(np.int32)
        penalised = batch_of(x, (filtered(history=history, repetition_penalty=1.1, frequency_penalty=0.1),))
        for name, batch, target in (
            ("row seeds", seeded, "<= 1.1"),
            ("16 without replacement", slate, "<= 3"),
            ("penalties over 4,096 tokens", penalised, "<= 1.5"),
        ):
            times = interleaved(self.rounds, lambda batch=batch: sample(batch), lambda: sample(plain))  # type: ignore[misc]
            self.line(f"{name}, 64 x {size:,}, against plain", times, target)

    def threads(self, size: int) -> None:
        """Measure two threads against one."""
        batch = batch_of(torch.randn(64, size), (SamplingParams(temperature=_T),))
        both = NumbaSampler(2)
        both.warm_up()
        times = interleaved(self.rounds, lambda: self.sampler.sample(batch), lambda: both.sample(batch))
        both.close()
        self.line(f"one thread, 64 x {size:,}, against two", times, ">= 1.7")

    def many_draws(self, size: int, draws: int) -> float:
        """Count samples a second from one row of weights."""
        weights = torch.rand(1, size)
        batch = batch_of(weights, (SamplingParams(),), num_samples=draws, kind=InputKind.PROBABILITIES)
        (seconds,) = interleaved(2, lambda: self.sampler.sample(batch))
        return draws / seconds


def disagreements(sampler: NumbaSampler, draws: int) -> Iterator[tuple[int, int, int]]:
    """Count draws on which the compiled sampler and the float64 reference differ, by V: (V, draws, differing)."""
    for size in (1_000, 32_000, 128_000):
        x = np.random.default_rng(size).normal(size=(1, size)).astype(np.float32)
        source = DenseRows(dtype=Dtype.F32, rows=1, vocab_size=size, data=x.tobytes())
        request = SampleRequest(
            id=1, source=source, params=(SamplingParams(temperature=_T),), num_samples=draws, seed=size
        )
        got = sampler.sample(pack([request])).samples
        z = x[0].astype(np.float64) / _T
        sums = np.cumsum(np.exp(z - z.max()))
        u = np.array([uniform(size, draw, 0) for draw in range(draws)])
        want = np.searchsorted(sums, u * sums[-1], side="right")
        yield size, draws, int((got != want).sum())


def run(progress: Progress, options: Options) -> Result:
    """Measure everything; `table` lays it out."""
    torch.set_num_threads(1)
    bench = Bench(progress, quick=options.quick)
    bench.sampler.warm_up()
    for rows in (1, 2, 16, 256) if not options.quick else (1, 16):
        bench.plain(64, rows, ">= 1")
        bench.plain(1_024, rows, ">= 12")
    for size in (32_768, 131_072) if not options.quick else (32_768,):
        for rows in (1, 8):
            bench.plain(size, rows, ">= 20")
        bench.plain(size, 64, ">= 30")
        bench.filters(size)
        bench.variants(size)
        bench.threads(size)
    return {
        "ratios": bench.lines,
        "samples_per_s_of_1000000_categories": bench.many_draws(1_000_000, 10_000 if options.quick else 100_000),
        "differing_from_reference": [
            {"vocab_size": size, "draws": draws, "differ": differ}
            for size, draws, differ in disagreements(bench.sampler, 2_000 if options.quick else 100_000)
        ],
    }


def table(result: Result) -> Table:
    """Lay the figures out: header and rows."""
    header = ["what", "us", "against us", "ratio", "target"]
    rows = [
        [line["name"], f"{line['first_us']:,.1f}", f"{line['second_us']:,.1f}", f"{line['ratio']:.2f}", line["target"]]
        for line in result["ratios"]
    ]
    speed = result["samples_per_s_of_1000000_categories"]
    rows.append(["samples/s of 1,000,000 categories", "", "", f"{speed:,.0f}", ">= 10,000,000"])
    for entry in result["differing_from_reference"]:
        name = f"draws of {entry['draws']:,} unlike the reference's, V = {entry['vocab_size']:,}"
        rows.append([name, "", "", f"{entry['differ']}", ""])
    return header, rows


def targets(result: Result) -> Iterator[Target]:
    """Read each line's promise, "<= 1.5" or ">= 40"."""
    for line in result["ratios"]:
        sign, bound = line["target"].split()
        yield Target(what=f"kernels: {line['name']}", value=line["ratio"], bound=float(bound), at_most=sign == "<=")
    yield Target(
        what="kernels: samples of 1,000,000 categories",
        value=result["samples_per_s_of_1000000_categories"] / 1e6,
        bound=10,
        unit="million/s",
    )


def figure(result: Result) -> Figure:
    """Draw every ratio beside what was promised."""
    lines = result["ratios"]
    drawing, ax = plt.subplots(figsize=(10, 1.2 + 0.3 * len(lines)), layout="constrained")
    places = range(len(lines))
    ax.barh(places, [line["ratio"] for line in lines], color=OURS, height=0.7, label="measured")
    for sign, marker in ((">=", ">"), ("<=", "<")):
        own = [(float(line["target"].split()[1]), at) for at, line in enumerate(lines) if line["target"][:2] == sign]
        label = "promised: at least" if sign == ">=" else "promised: at most"
        ax.plot([x for x, _ in own], [y for _, y in own], marker, color="black", markersize=6, label=label)
    ax.set_yticks(places, [line["name"] for line in lines], fontsize=9)
    ax.invert_yaxis()
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.grid(visible=True, axis="x", alpha=0.3)
    ax.set_xlabel("ratio of times (logarithmic)")
    drawing.suptitle("The samplers by themselves: ratios and promises")
    drawing.legend(frameon=False, ncols=3, loc="outside lower center")
    return drawing


SCENARIO = Scenario(run=run, table=table, targets=targets, figure=figure)
