"""What it costs to follow calls: processor time of a server with request ids, an access log, and traces.

The servers of a transport are loaded in turns, and each is compared with the plain one of the same round: what else the
machine does then meets both. Only the servers' own processor time counts, not that of the client.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc.aio

from benchmarks.check import checked_reply
from benchmarks.load import sample_request
from benchmarks.scenario import Options, Result, Scenario, Table
from benchmarks.servers import SamplerServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.report import Progress

__all__ = ["SCENARIO"]

VOCAB_SIZE = 1_024
IN_FLIGHT = 16
NOTE = (
    f"f32 rows of V = {VOCAB_SIZE:,}, one a call, {IN_FLIGHT} calls in flight; processor time of all threads of the "
    "server, as a ratio to the plain server in the same round, median of the rounds"
)
_PLAIN = "plain"
_ID = (("x-request-id", "0123456789abcdef"),)
_TRACED = (("traceparent", f"00-{1:032x}-{1:016x}-01"),)


def run(progress: Progress, options: Options) -> Result:
    """Load the servers of each transport in turns."""
    rounds, calls = (2, 300) if options.quick else (6, 1_000)
    measured = []
    with _collector() as url:
        cases = {
            _PLAIN: ((), None),
            "request ids of clients": ((), _ID),
            "access log, 1 %": (("--access-log", "--access-log-sample", "0.01"), None),
            "access log": (("--access-log",), None),
            "traces, 1 %": (("--trace-endpoint", url, "--trace-sample", "0.01"), None),
            "traces, all": (("--trace-endpoint", url, "--trace-sample", "0"), _TRACED),
        }
        for transport in options.transports:
            entries = _measure(transport, cases, rounds, calls)
            measured += entries
            progress("  " + transport + ": " + ", ".join(f"{own['case']} {own['ratio']:.3f}" for own in entries))
    return {"note": NOTE, "rounds": rounds, "calls": calls, "measured": measured}


def _measure(transport: str, cases: dict[str, Any], rounds: int, calls: int) -> list[Result]:
    body = sample_request(VOCAB_SIZE).SerializeToString()
    taken: dict[str, list[float]] = {name: [] for name in cases}
    with contextlib.ExitStack() as stack:
        servers = {
            name: (stack.enter_context(SamplerServer(*flags, transport=transport)), metadata)
            for name, (flags, metadata) in cases.items()
        }
        for server, metadata in servers.values():
            checked_reply(server.port, sample_request(VOCAB_SIZE))
            asyncio.run(_load(server.port, body, 200, metadata))
        for number in range(rounds):
            for name, (server, metadata) in list(servers.items())[:: 1 if number % 2 else -1]:
                before = _cpu_s(server)
                asyncio.run(_load(server.port, body, calls, metadata))
                taken[name].append((_cpu_s(server) - before) / calls)
    return [
        {
            "transport": transport,
            "case": name,
            "us_a_call": statistics.median(own) * 1e6,
            "ratio": statistics.median(mine / plain for mine, plain in zip(own, taken[_PLAIN], strict=True)),
            "rounds_us": [value * 1e6 for value in own],
        }
        for name, own in taken.items()
    ]


async def _load(port: int, body: bytes, calls: int, metadata: Any) -> None:
    left = iter(range(calls))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        sample: Any = channel.unary_unary("/samplerd.v1.SamplerService/Sample")

        async def call_on() -> None:
            for _ in left:
                await sample(body, metadata=metadata)

        await asyncio.gather(*(call_on() for _ in range(IN_FLIGHT)))


def _cpu_s(server: SamplerServer) -> float:
    """Read the processor time of all threads, which the scheduler counts in nanoseconds."""
    total = 0
    for pid in server.pids():
        for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):  # the thread has ended
                total += int(task.read_text().split()[0])
    return total / 1e9


@contextlib.contextmanager
def _collector() -> Iterator[str]:
    """Take spans and drop them; gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the name is http.server's
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def table(result: Result) -> Table:
    """Lay the figures out: header and rows."""
    header = ["transport", "what is on", "us a call", "ratio"]
    return header, [
        [own["transport"], own["case"], f"{own['us_a_call']:.0f}", f"{own['ratio']:.3f}"] for own in result["measured"]
    ]


SCENARIO = Scenario(run=run, table=table)
