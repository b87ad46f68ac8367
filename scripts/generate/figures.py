"""Measured figures of README.md and docs/performance.md, from what `make bench` stored: no figure is copied by hand.

A table is what the scenario itself makes of its result. The sentence below it says on what machine, from which commit
and when it was measured, so that a figure never stands without its origin.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.report import markdown
from benchmarks.scenario import load_scenario
from scripts.generate.sections import replace_sections

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "batching_page",
    "deployment_page",
    "disagreements",
    "engines_page",
    "first_start_page",
    "origin_of",
    "performance_page",
    "readme",
    "security_page",
    "stored_result",
    "stored_table",
    "tracing_page",
    "workers_page",
]

_RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def performance_page() -> str:
    """Give docs/performance.md as text, its generated tables renewed."""
    names = ("budget", "served", "stream", "coalescing", "shared_memory", "idle", "memory", "slow_call")
    tables = {f"measured {name}": stored_table(name) for name in names}
    return replace_sections("docs/performance.md", **tables, **{"measured concurrency": _curves()})


def batching_page() -> str:
    """Give docs/batching.md as text, its generated tables renewed."""
    sections = {"measured prices": _dearest(), "measured slices": _beside(), "measured overload": _overload()}
    return replace_sections("docs/batching.md", **sections)


def deployment_page() -> str:
    """Give docs/deployment.md as text, its generated table renewed."""
    return replace_sections("docs/deployment.md", **{"measured failover": stored_table("failover")})


def workers_page() -> str:
    """Give docs/workers.md as text, its generated table renewed."""
    return replace_sections("docs/workers.md", **{"measured scrapes": stored_table("scrapes")})


def engines_page() -> str:
    """Give docs/engines.md as text, its generated table renewed."""
    return replace_sections("docs/engines.md", **{"measured engines": stored_table("engines")})


def security_page() -> str:
    """Give docs/security.md as text, its generated table renewed."""
    return replace_sections("docs/security.md", **{"measured abuse": _abuse()})


def tracing_page() -> str:
    """Give docs/tracing.md as text, its generated table renewed."""
    result = stored_result("following_calls")
    taken = {(own["case"], own["transport"]): own for own in result["measured"]}
    transports = sorted({transport for _, transport in taken}, reverse=True)  # grpcio first, as everywhere

    def cell(case: str, transport: str) -> str:
        own, plain = taken[case, transport], taken["plain", transport]
        ratios = [mine / other for mine, other in zip(own["rounds_us"], plain["rounds_us"], strict=True)]
        return f"{own['ratio']:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"

    cases = [case for case in dict.fromkeys(case for case, _ in taken) if case != "plain"]
    table = markdown(["", *transports], [[case, *(cell(case, own) for own in transports)] for case in cases])
    note = (
        f"One f32 row of V = 1,024 a call, 16 calls in flight, {result['rounds']} rounds of {result['calls']:,} calls."
    )
    return replace_sections("docs/tracing.md", **{"measured following": f"{table}\n\n{note}\n{origin_of(result)}"})


def first_start_page() -> str:
    """Give docs/first_start.md as text, its generated figures renewed."""
    result = stored_result("first_start/first_start")
    compiling = result["compiling"]
    about = compiling["machine"]
    rows = [[name, f"{seconds:.1f}"] for name, seconds in compiling["processor_s_by_kernel"].items()]
    memory = result["memory_of_the_server"]
    after, cached = (memory[name] / 1024 for name in ("after_a_child_compiled_kib", "with_a_complete_cache_kib"))
    listening = max(max(own) for own in result["listening"]["processor_s"].values())
    text = (
        f"Seconds of processor time in one process with nothing cached; {compiling['processor_s']:.0f} in all.\n"
        f"Measured by `python -m benchmarks.first_start` on {about['date'][:10]} at commit `{about['commit'][:8]}`\n"
        f"({about['cores']} cores, {about['cpu_model']}, load average {about['load_average_1m']:.0f}:\n"
        "on a busy machine, processor times are longer as well).\n\n"
        f"The port is open after {listening:.1f} s of processor time. The server holds {after:.0f} MiB after a child\n"
        f"has compiled, and {cached:.0f} MiB with a complete cache; one process that compiles everything takes\n"
        f"{compiling['max_rss_mib']} MiB (`benchmarks/results/first_start/`)."
    )
    table = markdown(["kernel, or part that kernels share", "s"], rows)
    return replace_sections("docs/first_start.md", **{"measured first start": f"{table}\n\n{text}"})


def readme() -> str:
    """Give README.md as text, its generated table renewed."""
    return replace_sections("README.md", figures=_summary())


def disagreements() -> str:
    """Say how many draws of the compiled kernels were not those of the float64 reference."""
    result = stored_result("kernels")
    compared = result["differing_from_reference"]
    counts = [f"{row['differ']:,} at V = {row['vocab_size']:,}" for row in compared]
    draws = compared[0]["draws"]
    text = f"Of {draws:,} draws from normal logits the compiled kernels gave another id than the float64 reference in"
    return f"{text}\n{_listed(counts)}.\n\n{origin_of(result)}"


def stored_result(name: str) -> dict[str, Any]:
    """Read what `make bench` stored of a scenario."""
    result: dict[str, Any] = json.loads((_RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return result


def stored_table(name: str) -> str:
    """Lay a stored result out as its scenario does, with its note and its origin."""
    result = stored_result(name)
    note = result.get("note", "")
    about = f"{note[0].upper()}{note[1:]}. " if note else ""
    return f"{markdown(*load_scenario(name).table(result))}\n\n{about}{origin_of(result)}"


def origin_of(result: dict[str, Any], command: str = "") -> str:
    """Say on what machine, from which commit and when a result was measured; `command`: "" = that of its scenario."""
    machine = result["machine"]
    where = f"{machine['cores']} cores, {machine['cpu_model']}, torch {machine['packages']['torch']}"
    command = command or f"python -m benchmarks {result['benchmark']}"
    return f"Measured by `{command}` on {machine['date'][:10]} at commit `{machine['commit'][:8]}` ({where})."


def _curves() -> str:
    """Say of each transport and its empty handler how much of the highest rate is left with few and with many calls."""
    result = stored_result("concurrency")
    calls = result["curves"][0]["in_flight"]
    rows = []
    for curve in result["curves"]:
        rates = {int(count): own["rows_per_s"] for count, own in curve["measured"].items()}
        best = max(rates, key=rates.__getitem__)
        name = {"empty": "empty handler of grpc.aio", "empty envoy": "empty handler in Envoy"}.get(
            curve["transport"], f"samplerd, {curve['transport']}"
        )
        shares = [f"{rates[count] / rates[best]:.2f}" for count in (calls[0], calls[-1])]
        rows.append([f"V = {curve['vocab_size']:,}, {name}", f"{rates[best]:,.0f}", str(best), *shares])
    header = ["", "most rows/s", "calls in flight", f"share at {calls[0]}", f"share at {calls[-1]}"]
    return f"{markdown(header, rows)}\n\n{origin_of(result)}"


def _summary() -> str:
    """Give the few figures that say which transport, and what the client's coalescing brings."""
    served, coalescing = stored_result("served"), stored_result("coalescing")
    rows = [
        [
            f"V = {shape['vocab_size']:,}, {shape['rows']} row{'s' * (shape['rows'] > 1)} a call",
            *(f"{shape['measured'][f'{name} f32']['rows_per_s']:,.0f}" for name in ("empty", "grpcio", "envoy")),
        ]
        for shape in served["shapes"]
        if shape["vocab_size"] < 100_000
    ]
    table = markdown(["rows/s, f32", "empty handler of grpc.aio", "samplerd", "samplerd on Envoy"], rows)
    [load] = [
        own
        for own in coalescing["loads"]
        if (own["vocab_size"], own["in_flight"], own["transport"]) == (1024, 64, "grpcio")
    ]
    own = load["measured"]["coalesced"]["calls_per_s"]
    text = (
        f"One Python client with {load['in_flight']} concurrent calls of one row makes {own:,.0f} calls/s, "
        f"{load['ratio']:.1f} times as many as without coalescing."
    )
    caution = "Load and server share the machine: compare the columns of a line, not machines."
    return f"{table}\n\n{origin_of(served)}\n{caution}\n\n{text}\n{origin_of(coalescing)}"


def _dearest() -> str:
    """Give the fields that take the most of their worth: the tenth of those that were measured."""
    result = stored_result("laws/price")
    cells = sorted(result["cells"], key=lambda cell: cell["worth_ms"] / cell["ms"])[: len(result["cells"]) // 10]
    rows = [[cell["case"], f"{cell['ms']:.1f}", f"{cell['ms'] / cell['worth_ms']:.0f}"] for cell in cells]
    table = markdown(["field or fields", "ms", "times its worth"], rows)
    return f"{table}\n\nRows of 131,072 numbers; *large*: 4,000,000. {origin_of(result)}"


def _beside() -> str:
    """Give the latency of small calls alone and beside each of the largest requests, by transport."""
    result = stored_result("laws/slices")
    cells = [cell for cell in result["cells"] if not cell.get("handler")]
    transports = list(dict.fromkeys(cell["transport"] for cell in cells))
    found = {(cell["beside"], cell["transport"]): cell for cell in cells}
    rows = []
    for beside in dict.fromkeys(cell["beside"] for cell in cells):
        own = [found[beside, transport] for transport in transports]
        latencies = [f"{cell['latency_ms'][name]:.1f}" for cell in own for name in ("p50", "p99")]
        whole = f"{1e3 * own[0]['maximal_s']:,.0f}" if own[0]["replies"] else ""
        rows.append([beside, whole, *latencies])
    header = [f"{name} {transport}" for transport in transports for name in ("p50", "p99")]
    table = markdown(["a small call beside", "which takes", *header], rows)
    return (
        f"{table}\n\nIn milliseconds; one row of 1,024 numbers, 50 times a second, by a schedule. {origin_of(result)}"
    )


def _overload() -> str:
    """Give what was promised of a server with too many calls, and what was measured, by transport."""
    rows: list[list[str]] = []
    origins: list[str] = []
    for transport in ("grpcio", "envoy"):
        result = stored_result(f"trust/overload_{transport}/overload")
        rows += [target.cells() for target in load_scenario("overload").targets(result)]
        origins.append(f"{transport}: {origin_of(result)}")
    return f"{markdown(['what is promised', 'aim', 'measured', 'kept'], rows)}\n\n" + "\n\n".join(origins)


def _abuse() -> str:
    """Give what each kind of abuse may take of a server, and what it took, by transport."""
    results = {transport: stored_result(f"trust/abuse_{transport}") for transport in ("grpcio", "envoy")}
    names = [name for name in results["grpcio"]["abuses"] if name != "end"]
    rows = []
    for name in names:
        found = [result["abuses"][name] for result in results.values()]
        [bounds] = {(own["most_grown_bytes"], own["most_polite_s"]) for own in found}
        rows.append(
            [
                name.replace("_", " "),
                f"{bounds[0] / (1 << 20):,.0f}",
                *(f"{own['grown_bytes'] / (1 << 20):,.0f}" for own in found),
                f"{bounds[1]:.2f}",
                *(f"{own['slowest_polite_s']:.2f}" for own in found),
            ]
        )
    header = [
        *("bound in MiB", *(f"MiB more, {transport}" for transport in results)),
        *("bound in s", *(f"slowest polite call in s, {transport}" for transport in results)),
    ]
    origins = []
    for transport, result in results.items():
        about = f" Load average {result['machine']['load_average_1m']:.0f}: {result['note']}." if result["note"] else ""
        origins.append(
            f"{transport}: {origin_of(result, f'python -m benchmarks.abuse --transport {transport}')}{about}"
        )
    return f"{markdown(['abuse', *header], rows)}\n\n" + "\n\n".join(origins)


def _listed(texts: Iterable[str]) -> str:
    *first, last = texts
    return f"{', '.join(first)} and {last}"
