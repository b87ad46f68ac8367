"""What a server costs that nobody calls: its share of a core and its memory."""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.check import checked_reply
from benchmarks.load import sample_request
from benchmarks.scenario import Options, Result, Scenario, Table, Target
from benchmarks.servers import SamplerServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.report import Progress

__all__ = ["SCENARIO"]

NOTE = "after one call, all processes and threads of a server; PSS counts once what processes share"
_RATIOS = {
    "rss_bytes": ("resident memory", {"grpcio": 0.45, "envoy": 0.5}),
    "first_answer_s": ("from its start to its first answer", {"grpcio": 0.4, "envoy": 0.4}),
}
"""What is compared with another checkout, and the bounds of the ratios."""


def run(progress: Progress, options: Options) -> Result:
    """Watch an idle server of each transport; in turns with one of another checkout, where that is asked for."""
    seconds = 3 if options.quick else 20
    servers, pairs = [], []
    for transport in options.transports:
        entry = _watch(transport, seconds)
        servers.append(entry)
        progress(f"  {transport}: {100 * entry['core_share']:.2f} % of a core, {entry['rss_bytes'] / 2**20:.0f} MiB")
        if options.against is not None:
            pair = _compare(transport, options.against, rounds=2 if options.quick else 7)
            pairs.append(pair)
            progress(f"  {transport}, against {options.against}: " + _ratios(pair))
    return {"note": NOTE, "servers": servers, **({"pairs": pairs} if pairs else {})}


def _watch(transport: str, seconds: float, checkout: Path | None = None) -> Result:
    began = time.monotonic()
    with SamplerServer(transport=transport, checkout=checkout) as server:
        checked_reply(server.port, sample_request(1_024))
        first_answer_s, start_cpu_s = time.monotonic() - began, server.cpu_s()
        time.sleep(1)  # the call's own work ends, and a lone thread goes to sleep
        before, began = server.cpu_s(), time.monotonic()
        time.sleep(seconds)
        return {
            "transport": transport,
            "seconds": seconds,
            "core_share": (server.cpu_s() - before) / (time.monotonic() - began),
            "processes": len(server.pids()),
            "rss_bytes": server.rss_bytes(),
            "pss_bytes": server.pss_bytes(),
            "start_s": server.start_s,
            "first_answer_s": first_answer_s,
            "start_cpu_s": start_cpu_s,
        }


def _compare(transport: str, other: Path, rounds: int) -> Result:
    """Start servers of both checkouts in turns; gives the median of each figure, and of the ratios of neighbours."""
    _watch(transport, 0, other)  # what it must compile is compiled by now
    measured = [(_watch(transport, 0, other), _watch(transport, 0)) for _ in range(rounds)]
    names = ("rss_bytes", "pss_bytes", "first_answer_s", "start_cpu_s")
    return {
        "transport": transport,
        "rounds": rounds,
        "before": {name: median(before[name] for before, _ in measured) for name in names},
        "now": {name: median(now[name] for _, now in measured) for name in names},
        "ratio": {name: median(now[name] / before[name] for before, now in measured) for name in names},
    }


def _ratios(pair: Result) -> str:
    return ", ".join(f"{name} {ratio:.2f}x" for name, ratio in pair["ratio"].items())


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
    for pair in result.get("pairs", ()):
        for name, (what, bounds) in _RATIOS.items():
            title = f"{pair['transport']}, against the other checkout: {what}"
            yield Target(what=title, value=pair["ratio"][name], bound=bounds[pair["transport"]], at_most=True)


SCENARIO = Scenario(run=run, table=table, targets=targets)
