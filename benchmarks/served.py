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

import grpc

from benchmarks.load import CONNECTIONS, SAMPLE_PATH, STREAMS, LoadError, frame, run_load, sample_request
from benchmarks.scrape import Reading, read_metrics
from benchmarks.servers import EmptyServer, SamplerServer, ServerProcess
from samplerd.v1 import sampler_pb2 as pb

if TYPE_CHECKING:
    from benchmarks.report import Progress

__all__ = ["NOTE", "checked_reply", "expect_all_ok", "measure", "run", "table"]

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


def run(progress: Progress, *, quick: bool = False) -> dict[str, Any]:
    """Measure every vocabulary size."""
    plan = QUICK if quick else Plan()
    results = []
    with SamplerServer() as sampler:
        for vocab_size in VOCAB_SIZES:
            request = sample_request(vocab_size)
            reply = checked_reply(sampler.port, request)
            with EmptyServer(reply.SerializeToString()) as empty:
                progress(f"V = {vocab_size:,}: {plan.rounds} rounds of about {2 * plan.seconds:g} s")
                results.append(measure(request, sampler, empty, plan, progress))
    return {"note": NOTE, "plan": asdict(plan), "sizes": results}


def checked_reply(port: int, request: pb.SampleRequest) -> pb.SampleResponse:
    """Call once with a real client and check the reply, since h2load would not.

    Raises:
        LoadError: the reply is not one id of the row, or the same seed draws another.

    """
    replayed = pb.SampleRequest()
    replayed.CopyFrom(request)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(
            SAMPLE_PATH,
            request_serializer=pb.SampleRequest.SerializeToString,
            response_deserializer=pb.SampleResponse.FromString,
        )
        reply: pb.SampleResponse = call(request, timeout=60)
        replayed.seed = reply.seed
        again: pb.SampleResponse = call(replayed, timeout=60)
    if len(reply.samples) != 1 or not 0 <= reply.samples[0] < request.tensor.vocab_size or reply.row_errors:
        raise LoadError(f"not a drawn id: {reply}")
    if again.samples != reply.samples:
        raise LoadError(f"seed {reply.seed} drew {reply.samples}, then {again.samples}")
    return reply


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


def expect_all_ok(grown: Reading, requests: int) -> None:
    """Check that the server answered this many calls with OK, and drew a row for each.

    Raises:
        LoadError: some call failed, or something else was answering.

    """
    ok = grown.total("samplerd_requests_total", rpc="Sample", code="OK")
    rows = grown.total("samplerd_rows_total")
    if not ok == rows == requests == grown.total("samplerd_requests_total", rpc="Sample"):
        raise LoadError(f"of {requests} calls the server answered {ok:.0f} with OK and drew {rows:.0f} rows")


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


def table(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
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
