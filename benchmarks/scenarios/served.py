"""Served throughput of `Sample`: samplerd against an empty handler, the same bytes to both, in turns.

For every vocabulary size both servers run; h2load loads one, then the other, again and again, so that a machine that
drifts drifts for both. Figures are medians over the rounds; the ratio is that of each round's pair, then the median.
"""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.check import checked_reply, expect_all_ok
from benchmarks.load import CONNECTIONS, STREAMS, frame, run_load, sample_request
from benchmarks.plots import OURS, REFERENCE, plt
from benchmarks.scenario import Options, Result, Scenario, Table
from benchmarks.scrape import Reading, read_metrics
from benchmarks.servers import EmptyServer, SamplerServer, ServerProcess

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from benchmarks.report import Progress
    from samplerd.v1 import sampler_pb2 as pb

__all__ = ["SCENARIO"]

VOCAB_SIZES = (1_024, 32_768, 131_072)
NOTE = f"one f32 row a call, {CONNECTIONS * STREAMS} calls in flight, both servers on this machine with the load"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long to measure."""

    seconds: float = 2.5
    """Of each run of h2load, about. Short, so that the two of a pair meet the same machine."""
    rounds: int = 9
    """Pairs of runs."""
    warm_up: int = 500
    """Calls before, to each; their rate sizes the runs."""


QUICK = Plan(seconds=0.7, rounds=2, warm_up=200)


def run(progress: Progress, options: Options) -> Result:
    """Measure every vocabulary size."""
    plan = QUICK if options.quick else Plan()
    results = []
    with SamplerServer() as sampler:
        for vocab_size in VOCAB_SIZES:
            request = sample_request(vocab_size)
            reply = checked_reply(sampler.port, request)
            with EmptyServer(reply.SerializeToString()) as empty:
                progress(f"V = {vocab_size:,}: {plan.rounds} rounds of about {2 * plan.seconds:g} s")
                results.append(measure(request, sampler, empty, plan, progress))
    return {"note": NOTE, "plan": asdict(plan), "sizes": results}


def measure(
    request: pb.SampleRequest, sampler: SamplerServer, empty: EmptyServer, plan: Plan, progress: Progress
) -> dict[str, Any]:
    """Load both servers in turns with one request, and take medians."""
    with tempfile.TemporaryDirectory(prefix="samplerd-bench-") as folder:
        body = Path(folder) / "body"
        body.write_bytes(frame(request.SerializeToString()))
        # The first calls meet cold caches; the second run's rate tells how many calls fill the time.
        requests = {}
        for server in (empty, sampler):
            run_load(server.port, body, requests=plan.warm_up)
            rate = run_load(server.port, body, requests=plan.warm_up).rate
            requests[server.pid] = max(plan.warm_up, int(rate * plan.seconds))
        rounds = []
        before_all = read_metrics(sampler.metrics_url)
        for number in range(1, plan.rounds + 1):
            reference = _load(empty, body, requests[empty.pid])
            before = read_metrics(sampler.metrics_url)
            ours = _load(sampler, body, requests[sampler.pid])
            expect_all_ok(read_metrics(sampler.metrics_url) - before, requests[sampler.pid])
            rounds.append({"empty": reference, "samplerd": ours, "ratio": ours["rate"] / reference["rate"]})
            progress(
                f"  round {number}: empty {reference['rate']:,.0f}/s, samplerd {ours['rate']:,.0f}/s "
                f"= {rounds[-1]['ratio']:.2f}"
            )
        grown = read_metrics(sampler.metrics_url) - before_all
    return {
        "vocab_size": request.tensor.vocab_size,
        "request_bytes": request.ByteSize(),
        "ratio": statistics.median(entry["ratio"] for entry in rounds),
        "empty": _medians([entry["empty"] for entry in rounds]),
        "samplerd": {**_medians([entry["samplerd"] for entry in rounds]), **_stages(grown)},
        "rounds": rounds,
    }


def _load(server: ServerProcess, body: Path, requests: int) -> dict[str, Any]:
    cpu_before = server.cpu_s()
    load = run_load(server.port, body, requests=requests)
    return {
        "rate": load.rate,
        "cpu_us_per_call": 1e6 * (server.cpu_s() - cpu_before) / requests,
        "latency_ms": {name: 1e3 * value for name, value in load.latency_s.items()},
    }


def _medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "rate": statistics.median(run["rate"] for run in runs),
        "cpu_us_per_call": statistics.median(run["cpu_us_per_call"] for run in runs),
        "latency_ms": {
            name: statistics.median(run["latency_ms"][name] for run in runs) for name in runs[0]["latency_ms"]
        },
    }


def _stages(grown: Reading) -> dict[str, float]:
    return {
        "mean_batch_rows": grown.mean("samplerd_batch_rows"),
        "mean_queue_wait_us": 1e6 * grown.mean("samplerd_queue_wait_seconds"),
        "compute_us_per_row": 1e6
        * grown.total("samplerd_compute_seconds_sum")
        / grown.total("samplerd_batch_rows_sum"),
    }


def table(result: Result) -> Table:
    """Lay the figures out: header and rows."""
    header = ["V", "empty/s", "samplerd/s", "ratio", "batch", "compute us/row", "CPU us/call", "p50 ms", "p99 ms"]
    rows = [
        [
            f"{size['vocab_size']:,}",
            f"{size['empty']['rate']:,.0f}",
            f"{size['samplerd']['rate']:,.0f}",
            f"{size['ratio']:.2f}",
            f"{size['samplerd']['mean_batch_rows']:.1f}",
            f"{size['samplerd']['compute_us_per_row']:.1f}",
            f"{size['samplerd']['cpu_us_per_call']:.0f} ({size['empty']['cpu_us_per_call']:.0f})",
            f"{size['samplerd']['latency_ms']['p50']:.1f} ({size['empty']['latency_ms']['p50']:.1f})",
            f"{size['samplerd']['latency_ms']['p99']:.1f} ({size['empty']['latency_ms']['p99']:.1f})",
        ]
        for size in result["sizes"]
    ]
    return header, rows


def figure(result: Result) -> Figure:
    """Draw calls per second by vocabulary size, beside the empty handler's, every round a dot."""
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    sizes = result["sizes"]
    for place, (who, label, colour) in enumerate(
        [("empty", "empty grpc.aio handler", REFERENCE), ("samplerd", "samplerd", OURS)]
    ):
        at = [index + 0.4 * (place - 0.5) for index in range(len(sizes))]
        axes.bar(at, [size[who]["rate"] for size in sizes], width=0.38, color=colour, label=label)
        for x, size in zip(at, sizes, strict=True):
            rates = [entry[who]["rate"] for entry in size["rounds"]]
            axes.plot([x] * len(rates), rates, ".", color="black", markersize=4, alpha=0.6)
    for index, size in enumerate(sizes):
        top = max(max(entry[who]["rate"] for entry in size["rounds"]) for who in ("empty", "samplerd"))
        axes.annotate(f"{size['ratio']:.2f}", (index, top), (0, 8), textcoords="offset points", ha="center")
    axes.set_xticks(range(len(sizes)), [f"V = {size['vocab_size']:,}" for size in sizes])
    axes.set_ylabel("calls per second, one f32 row each")
    axes.set_ylim(0, axes.get_ylim()[1] * 1.08)
    axes.set_title("Served throughput of Sample, and its ratio to an empty handler", fontsize=12)
    axes.legend(frameon=False)
    return figure


SCENARIO = Scenario(run=run, table=table, figure=figure)
