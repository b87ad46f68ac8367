"""What a server costs that nobody calls: its share of a core and its memory."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarks.check import checked_reply
from benchmarks.load import sample_request
from benchmarks.scenario import Options, Result, Scenario, Table, Target
from benchmarks.servers import SamplerServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.report import Progress

__all__ = ["SCENARIO"]

NOTE = "after one call, all processes and threads of a server; PSS counts once what processes share"


def run(progress: Progress, options: Options) -> Result:
    """Watch an idle server of each transport."""
    seconds = 3 if options.quick else 20
    servers = []
    for transport in options.transports:
        with SamplerServer(transport=transport) as server:
            checked_reply(server.port, sample_request(1_024))
            time.sleep(1)  # the call's own work ends, and a lone thread goes to sleep
            before, began = server.cpu_s(), time.monotonic()
            time.sleep(seconds)
            core = (server.cpu_s() - before) / (time.monotonic() - began)
            entry: Result = {
                "transport": transport,
                "seconds": seconds,
                "core_share": core,
                "processes": len(server.pids()),
                "rss_bytes": server.rss_bytes(),
                "pss_bytes": server.pss_bytes(),
                "start_s": server.start_s,
            }
        servers.append(entry)
        progress(f"  {transport}: {100 * core:.2f} % of a core, {entry['rss_bytes'] / 2**20:.0f} MiB")
    return {"note": NOTE, "servers": servers}


def table(result: Result) -> Table:
    """Lay the figures out: header and rows."""
    header = ["transport", "% of a core", "RSS MiB", "PSS MiB", "processes", "start s"]
    return header, [
        [
            entry["transport"],
            f"{100 * entry['core_share']:.2f}",
            f"{entry['rss_bytes'] / 2**20:.0f}",
            f"{entry['pss_bytes'] / 2**20:.0f}",
            f"{entry['processes']}",
            f"{entry['start_s']:.1f}",
        ]
        for entry in result["servers"]
    ]


def targets(result: Result) -> Iterator[Target]:
    """Hold both against their bounds; memory as RSS, the stricter of the two."""
    for entry in result["servers"]:
        name = f"{entry['transport']}, idle"
        yield Target(what=f"{name}: share of a core", value=100 * entry["core_share"], bound=1, at_most=True, unit="%")
        yield Target(
            what=f"{name}: resident memory", value=entry["rss_bytes"] / 2**20, bound=600, at_most=True, unit="MiB"
        )


SCENARIO = Scenario(run=run, table=table, targets=targets)
