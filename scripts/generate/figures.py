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

__all__ = ["disagreements", "performance_page", "readme"]

_RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def performance_page() -> str:
    """Give docs/performance.md as text, its generated tables renewed."""
    names = ("budget", "served", "coalescing", "shared_memory", "idle", "memory")
    tables = {f"measured {name}": _table(name) for name in names}
    return replace_sections("docs/performance.md", **tables, **{"measured concurrency": _curves()})


def readme() -> str:
    """Give README.md as text, its generated table renewed."""
    return replace_sections("README.md", figures=_summary())


def disagreements() -> str:
    """Say how many draws of the compiled kernels were not those of the float64 reference."""
    result = _result("kernels")
    compared = result["differing_from_reference"]
    counts = [f"{row['differ']:,} at V = {row['vocab_size']:,}" for row in compared]
    draws = compared[0]["draws"]
    text = f"Of {draws:,} draws from normal logits the compiled kernels gave another id than the float64 reference in"
    return f"{text}\n{_listed(counts)}.\n\n{_origin(result)}"


def _result(name: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((_RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return result


def _table(name: str) -> str:
    """Lay a stored result out as its scenario does, with its note and its origin."""
    result = _result(name)
    note = result.get("note", "")
    about = f"{note[0].upper()}{note[1:]}. " if note else ""
    return f"{markdown(*load_scenario(name).table(result))}\n\n{about}{_origin(result)}"


def _origin(result: dict[str, Any]) -> str:
    machine = result["machine"]
    where = f"{machine['cores']} cores, {machine['cpu_model']}, torch {machine['packages']['torch']}"
    command = f"python -m benchmarks {result['benchmark']}"
    return f"Measured by `{command}` on {machine['date'][:10]} at commit `{machine['commit'][:8]}` ({where})."


def _curves() -> str:
    """Say of each transport and its empty handler how much of the highest rate is left with few and with many calls."""
    result = _result("concurrency")
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
    return f"{markdown(header, rows)}\n\n{_origin(result)}"


def _summary() -> str:
    """Give the few figures that say which transport, and what the client's coalescing brings."""
    served, coalescing = _result("served"), _result("coalescing")
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
    return f"{table}\n\n{_origin(served)}\n{caution}\n\n{text}\n{_origin(coalescing)}"


def _listed(texts: Iterable[str]) -> str:
    *first, last = texts
    return f"{', '.join(first)} and {last}"
