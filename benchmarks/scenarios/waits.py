"""Whether the server's own time of a call is what callers wait, with few and with many calls in flight.

A server whose event loop has more to do than it can leaves calls waiting in the transport, where a handler's clock does
not see them. The mean of `samplerd_request_seconds` is held beside that of h2load, which shares the machine's cores:
what a reply waits there until h2load reads it is not the server's.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.check import checked_reply
from benchmarks.load import Load, frame, run_load, sample_request
from benchmarks.scenario import Options, Result, Scenario, Table, Target
from benchmarks.scrape import read_metrics
from benchmarks.servers import SamplerServer

if TYPE_CHECKING:
    from benchmarks.report import Progress

__all__ = ["SCENARIO"]

VOCAB_SIZE = 1_024
IN_FLIGHT = {1: (1, 1), 16: (2, 8), 64: (4, 16), 256: (8, 32)}
"""Calls in flight, as connections and calls on each."""
REQUESTS = {1: 3_000, 16: 12_000, 64: 24_000, 256: 24_000}
ALLOWED = 2.0
NOTE = f"one row of V = {VOCAB_SIZE:,} a call; mean seconds of a call, h2load's and the server's"


def run(progress: Progress, options: Options) -> Result:
    """Load a server of each transport with ever more calls in flight."""
    rows = []
    for transport in options.transports:
        with (
            SamplerServer(transport=transport) as server,
            tempfile.TemporaryDirectory(prefix="samplerd-bench-") as folder,
        ):
            body = Path(folder) / "body"
            request = sample_request(VOCAB_SIZE)
            body.write_bytes(frame(request.SerializeToString()))
            checked_reply(server.port, request)
            run_load(server.port, body, requests=1_000)
            for in_flight, (connections, streams) in IN_FLIGHT.items():
                progress(f"{transport}: {in_flight} calls in flight")
                before, cpu_before_s = read_metrics(server.metrics_url), server.cpu_s()
                requests = REQUESTS[in_flight] // (10 if options.quick else 1)
                load = run_load(
                    server.port, body, requests=requests, load=Load(connections=connections, streams=streams)
                )
                cpu_s = server.cpu_s() - cpu_before_s
                grown = read_metrics(server.metrics_url) - before
                server_s = grown.mean("samplerd_request_seconds", rpc="Sample")
                rows.append(
                    {
                        "transport": transport,
                        "in_flight": in_flight,
                        "requests": requests,
                        "rate": load.rate,
                        "cpu_us": cpu_s / requests * 1e6,
                        "client_s": load.mean_s,
                        "server_s": server_s,
                        "waited_s": grown.mean("samplerd_transport_wait_seconds"),
                        "ratio": load.mean_s / server_s,
                    }
                )
    return {"note": NOTE, "rows": rows}


def table(result: Result) -> Table:
    """Lay the figures out: header and rows."""
    header = ["transport", "in flight", "calls/s", "processor us a call", "h2load", "server", "of it waiting", "ratio"]
    return header, [
        [
            row["transport"],
            f"{row['in_flight']}",
            f"{row['rate']:,.0f}",
            f"{row['cpu_us']:.0f}",
            f"{1e3 * row['client_s']:.2f} ms",
            f"{1e3 * row['server_s']:.2f} ms",
            f"{1e3 * row['waited_s']:.2f} ms",
            f"{row['ratio']:.2f}",
        ]
        for row in result["rows"]
    ]


def targets(result: Result) -> list[Target]:
    """Hold the two means to a factor of each other."""
    return [
        Target(
            what=f"h2load's mean beside the server's, {row['transport']}, {row['in_flight']} in flight",
            value=max(row["ratio"], 1.0 / row["ratio"]),
            bound=ALLOWED,
            at_most=True,
        )
        for row in result["rows"]
    ]


SCENARIO = Scenario(run=run, table=table, targets=targets)
