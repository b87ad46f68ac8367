"""Three times as many calls as the server can answer, and one client that sends 64 at a time beside one that sends one.

Held load: the device is what bounds it. The capacity with four calls in flight, then calls by a schedule at 0.8 and at
3 times that. A greedy client has up to 64 calls in flight on its own connection; a polite one has one. What the polite
one waits beside the greedy one is held against what it waits alone; the same of a handler that does nothing is what the
transport and the shared cores take.
"""

from __future__ import annotations

import subprocess
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import numpy as np

from benchmarks.check import checked_reply
from benchmarks.closed_loop import call_in_turn
from benchmarks.load import SAMPLE_PATH, Load, LoadError, frame, percentiles_s, run_load, sample_request
from benchmarks.open_loop import poisson, send_on_schedule
from benchmarks.scenario import Options, Result, Scenario, Table, Target
from benchmarks.scrape import read_metrics
from benchmarks.servers import EMPTY, SamplerServer
from samplerd.v1 import sampler_pb2 as pb
from samplerd.v1 import sampler_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.report import Progress
    from benchmarks.servers import ServerProcess

__all__ = ["SCENARIO"]

ROWS, VOCAB_SIZE = 32, 32_768
"""Of the uploaded distribution from which each call of the held load draws once a row, with top_p 0.9."""
WAITING = 8
"""`--max-queue-wait` of the held load is the time of so many calls."""
SHARES = (0.8, 3.0)
IN_FLIGHT = 64
"""Of the greedy client."""
FEW_STREAMS = 8
"""The lower bound of calls on one connection that is tried beside the default."""
SMALL = 1_024
NOTE = f"held load: {ROWS} uploaded rows of V = {VOCAB_SIZE:,} with top_p 0.9; polite: one row of V = {SMALL:,} a call"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lengths:
    capacity_s: float = 1.5
    held_s: tuple[float, ...] = (4.0, 15.0)
    held_rounds: int = 4
    """A minute at three times the capacity in all."""
    polite_s: float = 1.0
    polite_rounds: int = 3


_QUICK = _Lengths(capacity_s=1.0, held_s=(1.0, 2.0), held_rounds=1, polite_s=0.5, polite_rounds=1)


def run(progress: Progress, options: Options) -> Result:
    """Measure the held load, then the polite client beside the greedy one."""
    lengths = _QUICK if options.quick else _Lengths()
    held: list[Result] = []
    polite: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="samplerd-bench-") as name:
        folder = Path(name)
        for transport in options.transports:
            held.append(_held(transport, folder, lengths, progress))
            polite += _polite(transport, folder, lengths, progress)
    return {"note": NOTE, "held": held, "polite": polite}


def _held(transport: str, folder: Path, lengths: _Lengths, progress: Progress) -> Result:
    body = folder / "held"
    with SamplerServer(transport=transport) as server:
        body.write_bytes(frame(_upload(server.port)))
        wait_s = WAITING / _capacity(server, body, lengths.capacity_s)["rate"]
    with SamplerServer("--max-queue-wait", f"{1e3 * wait_s:.0f}ms", transport=transport) as server:
        message = _upload(server.port)
        rounds = []
        for number in range(lengths.held_rounds):
            # The capacity is measured in each round: it drifts with the machine.
            capacity = _capacity(server, body, lengths.capacity_s)
            cells = [
                _at(server, message, share, capacity["rate"], seconds)
                for share, seconds in zip(SHARES, lengths.held_s, strict=True)
            ]
            after = _capacity(server, body, lengths.capacity_s)
            rounds.append({"capacities": [capacity, after], "shares": cells})
            progress(f"  {transport}, round {number + 1} of {lengths.held_rounds}, {capacity['rate']:,.0f} calls/s")
            for cell in cells:
                progress(f"    at {cell['share']:g} of it: {_shown(cell)}")
    return {"transport": transport, "max_queue_wait_s": wait_s, "rounds": rounds}


def _upload(port: int) -> bytes:
    """Upload the rows and make the call that draws from them."""
    data = np.random.default_rng(1).normal(0.0, 3.0, (ROWS, VOCAB_SIZE)).astype("<f4").tobytes()
    tensor = pb.Tensor(dtype=pb.DTYPE_F32, rows=ROWS, vocab_size=VOCAB_SIZE, data=data)
    request = pb.SampleRequest(distribution="held", params=pb.SamplingParams(temperature=0.8, top_p=0.9))
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.max_send_message_length", -1)]) as channel:
        stub = sampler_pb2_grpc.SamplerServiceStub(channel)
        stub.CreateDistribution(pb.CreateDistributionRequest(name="held", tensor=tensor), timeout=60)
        for _ in range(20):  # the cost model learns
            reply = stub.Sample(request, timeout=60)
            if len(reply.samples) != ROWS or reply.row_errors:
                raise LoadError(f"not a drawn id for each row: {reply}")
    return request.SerializeToString()


def _capacity(server: SamplerServer, body: Path, seconds: float) -> Result:
    """Measure the calls that are answered in a second, and in one of processor time, with four in flight.

    The queue refuses none of so few.
    """
    load = Load(connections=4, streams=1)
    rate = run_load(server.port, body, requests=40, load=load).rate
    before, cpu_before_s = read_metrics(server.metrics_url), server.cpu_s()
    requests = max(40, int(rate * seconds))
    rate = run_load(server.port, body, requests=requests, load=load).rate
    cpu_s = server.cpu_s() - cpu_before_s
    answered = (read_metrics(server.metrics_url) - before).total("samplerd_requests_total", rpc="Sample", code="OK")
    return {"rate": rate * answered / requests, "per_cpu_s": answered / cpu_s}


def _at(server: SamplerServer, message: bytes, share: float, capacity: float, seconds: float) -> Result:
    starts = poisson(share * capacity, seconds)
    before, memory, cpu_before_s = read_metrics(server.metrics_url), _Memory(server), server.cpu_s()
    with memory:
        outcome = send_on_schedule(server.port, message, starts, connections=8)
    cpu_s = server.cpu_s() - cpu_before_s
    after = read_metrics(server.metrics_url)
    answered, refused = outcome.latencies_s[outcome.is_answered], outcome.latencies_s[~outcome.is_answered]
    grown = after - before
    counted = [grown.total("samplerd_requests_total", rpc="Sample", code=code) for code in ("OK", "RESOURCE_EXHAUSTED")]
    if counted != [len(answered), len(refused)]:
        raise LoadError(f"{len(answered)} answered and {len(refused)} refused; the server counted {counted}")
    return {
        "share": share,
        "seconds": seconds,
        "calls": len(starts),
        "answered": len(answered),
        "goodput": len(answered) / outcome.elapsed_s,
        "per_cpu_s": len(answered) / cpu_s,
        "latency_ms": _ms(answered),
        "refused_ms": _ms(refused) if len(refused) else None,
        "lag_ms": _ms(outcome.lags_s),
        "relief_s": outcome.elapsed_s - float(starts[-1]),
        "queue_rows_after": after.total("samplerd_queue_rows"),
        "memory_mib": memory.mib,
    }


class _Memory:
    """Reads the server's resident memory every half second while a load runs."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.mib: list[float] = []

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_over.wait(0.5):
            self.mib.append(round(self._server.rss_bytes() / 2**20, 1))


def _ms(durations_s: np.ndarray) -> dict[str, float]:
    return {name: 1e3 * value for name, value in percentiles_s(durations_s).items()}


def _shown(cell: Result) -> str:
    refused = cell["refused_ms"]
    return (
        f"{cell['goodput']:,.0f} answered/s, p99 {cell['latency_ms']['p99']:.1f} ms, {cell['calls'] - cell['answered']}"
        f" refused" + (f" in {refused['p50']:.1f} ms" if refused else "")
    )


def _polite(transport: str, folder: Path, lengths: _Lengths, progress: Progress) -> Iterator[Result]:
    """Measure the polite client of each server, socket and bound in turns: alone, then beside the greedy one."""
    request = sample_request(SMALL)
    message = request.SerializeToString()
    body, path = folder / "polite", folder / transport
    body.write_bytes(frame(message))
    with ExitStack() as stack:
        usual = stack.enter_context(SamplerServer(transport=transport, socket_path=path))
        bound = ("--max-concurrent-streams", str(FEW_STREAMS))
        bounded = stack.enter_context(SamplerServer(*bound, transport=transport))
        reply = checked_reply(usual.port, request).SerializeToString()
        empty = stack.enter_context(EMPTY[transport](reply))
        subjects: list[tuple[str, ServerProcess, Path | None, int]] = [
            ("samplerd", usual, None, IN_FLIGHT),
            ("samplerd, Unix socket", usual, path, IN_FLIGHT),
            (f"samplerd, {FEW_STREAMS} calls a connection", bounded, None, FEW_STREAMS),
            ("empty", empty, None, IN_FLIGHT),
            ("empty, 8 calls", empty, None, FEW_STREAMS),
        ]
        rounds: dict[str, list[Result]] = {name: [] for name, *_ in subjects}
        for number in range(lengths.polite_rounds):
            for name, server, socket_path, in_flight in subjects:
                alone = call_in_turn(server.port, message, lengths.polite_s, socket_path=socket_path)
                with _Greedy(server.port, body, in_flight, socket_path):
                    beside = call_in_turn(server.port, message, lengths.polite_s, socket_path=socket_path)
                rounds[name].append({"alone_ms": _ms(alone), "beside_ms": _ms(beside)})
            progress(f"  {transport}, polite beside greedy: round {number + 1} of {lengths.polite_rounds}")
    for name, own in rounds.items():
        yield {"transport": transport, "name": name, **_medians(own), "rounds": own}


class _Greedy:
    """h2load on one connection, for as long as the block lasts."""

    def __init__(self, port: int, body: Path, in_flight: int, socket_path: Path | None) -> None:
        self._command = [
            "h2load",
            "--duration=600",
            "--clients=1",
            f"--max-concurrent-streams={in_flight}",
            f"--data={body}",
            *(f"--header={header}" for header in Load().headers),
            "--header=x-samplerd-client: greedy",  # on a Unix socket, grpcio tells callers apart by it
            *([] if socket_path is None else [f"--base-uri=unix:{socket_path}"]),
            f"http://127.0.0.1:{port}{SAMPLE_PATH}",
        ]

    def __enter__(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.5)  # it connects, and fills the server
        if self._process.poll() is not None:
            raise LoadError(f"h2load exited with {self._process.returncode}")

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


def _medians(rounds: list[Result]) -> Result:
    def median(which: str, name: str) -> float:
        return float(np.median([own[which][name] for own in rounds]))

    def ratio(name: str) -> float:
        return float(np.median([own["beside_ms"][name] / own["alone_ms"][name] for own in rounds]))

    return {
        "alone_ms": {name: median("alone_ms", name) for name in ("p50", "p99")},
        "beside_ms": {name: median("beside_ms", name) for name in ("p50", "p99")},
        "worst_p50_ms": max(own["beside_ms"]["p50"] for own in rounds),
        "ratio": {name: ratio(name) for name in ("p50", "p99")},
    }


def table(result: Result) -> Table:
    """Lay the figures out: header and rows."""
    header = ["", "calls/s", "p50 ms", "p99 ms", "refused", "refused p50 ms", "beside / alone, p50", "p99"]
    rows = []
    for held in result["held"]:
        for number, share in enumerate(SHARES):
            cells = [own["shares"][number] for own in held["rounds"]]
            answered, calls = (sum(cell[name] for cell in cells) for name in ("answered", "calls"))
            rows.append(
                [
                    f"{held['transport']}, {share:g} of the capacity",
                    f"{_over(held, number, 'goodput', 'rate'):.2f} of it",
                    *(f"{_median(cells, 'latency_ms', name):.1f}" for name in ("p50", "p99")),
                    f"{100 * (1 - answered / calls):.0f} %",
                    f"{_median(cells, 'refused_ms', 'p50'):.1f}",
                    *("", ""),
                ]
            )
    for cell in result["polite"]:
        for which in ("alone", "beside"):
            own = cell[f"{which}_ms"]
            ratios = [f"{cell['ratio'][name]:.1f}" for name in ("p50", "p99")] if which == "beside" else ["", ""]
            name = f"{cell['transport']}, {cell['name']}, polite {which}"
            rows.append([name, "", f"{own['p50']:.1f}", f"{own['p99']:.1f}", "", "", *ratios])
    return header, rows


def _median(cells: list[Result], which: str, name: str) -> float:
    found = [cell[which][name] for cell in cells if cell[which]]
    return float(np.median(found)) if found else 0.0


def _over(held: Result, number: int, what: str, capacity: str) -> float:
    """Give the median over the rounds of a figure at one of the shares over that at the capacity."""
    ratios = [
        own["shares"][number][what] / np.mean([each[capacity] for each in own["capacities"]]) for own in held["rounds"]
    ]
    return float(np.median(ratios))


def targets(result: Result) -> Iterator[Target]:
    """Hold goodput, latencies, refusals and memory under the held load, and the polite client's p99."""
    for held in result["held"]:
        transport = held["transport"]
        below, over = ([own["shares"][number] for own in held["rounds"]] for number in range(len(SHARES)))
        what = f"{transport}, answered at 3 times the capacity, of the capacity"
        yield Target(what=what, value=_over(held, 1, "goodput", "rate"), bound=0.9)
        what = f"{transport}, answered in a second of processor time, of that at the capacity"
        yield Target(what=what, value=_over(held, 1, "per_cpu_s", "per_cpu_s"), bound=0.9)
        pairs = zip(over, below, strict=True)
        p99 = float(np.median([three["latency_ms"]["p99"] / less["latency_ms"]["p99"] for three, less in pairs]))
        yield Target(what=f"{transport}, p99 then, over that at 0.8", value=p99, bound=2.0, at_most=True)
        refused = _median(over, "refused_ms", "p50")
        yield Target(what=f"{transport}, p50 of a refusal", value=refused, bound=10.0, at_most=True, unit="ms")
        relief = float(np.median([cell["relief_s"] for cell in over]))
        yield Target(what=f"{transport}, until the queue is empty", value=relief, bound=1.0, at_most=True, unit="s")
        memory = [max(cell["memory_mib"]) for cell in over if cell["memory_mib"]]
        growth = 100 * (memory[-1] / memory[0] - 1) if memory else float("nan")
        what = f"{transport}, growth of memory from the first round to the last"
        yield Target(what=what, value=growth, bound=5.0, at_most=True, unit="%")
    empty = {
        (cell["transport"], "8 calls" in cell["name"]): cell["ratio"]["p99"]
        for cell in result["polite"]
        if cell["name"].startswith("empty")
    }
    for cell in result["polite"]:
        if not cell["name"].startswith("empty"):
            yield Target(
                what=f"{cell['transport']}, {cell['name']}: p99 beside a greedy client",
                empty=empty[cell["transport"], "8 calls" in cell["name"]],
                value=cell["ratio"]["p99"],
                bound=2.0,
                at_most=True,
            )


SCENARIO = Scenario(run=run, table=table, targets=targets)
