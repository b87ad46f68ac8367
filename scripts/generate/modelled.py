"""The tables of docs/scaling.md that a model computes from stored results, beside what was measured of them."""

from __future__ import annotations

from typing import Any

from benchmarks.queueing import Turns, fit_turns, sojourn
from benchmarks.report import markdown
from scripts.generate.figures import origin_of, stored_result

__all__ = ["fleets", "links", "turns", "waits"]

_NAMES = {
    "empty": "empty handler of grpc.aio",
    "grpcio": "samplerd, grpcio",
    "empty envoy": "empty handler in Envoy",
    "envoy": "samplerd, envoy",
}
_FLEETS = (10, 100, 1000)
"""Replicas."""
_FULL = 0.8
"""Share of the highest rate at which the smallest fleet is planned."""
_LINKS_GBIT = (10, 25, 100)
"""Bits a second of common network cards, in units of 10^9."""
_PLANNED = 0.5
"""Share of the highest rate at which a server is planned."""


def _curves() -> list[dict[str, Any]]:
    curves: list[dict[str, Any]] = stored_result("concurrency")["curves"]
    return curves


def _rates(curve: dict[str, Any]) -> list[float]:
    return [curve["measured"][str(calls)]["calls_per_s"] for calls in curve["in_flight"]]


def _fit(curve: dict[str, Any]) -> Turns:
    return fit_turns(curve["in_flight"], _rates(curve))


def _few_over_many(curve: dict[str, Any]) -> float:
    few, many = (curve["measured"][str(curve["in_flight"][end])]["cpu_us_per_row"] for end in (0, -1))
    return float(few / many)


def _title(curve: dict[str, Any], name: str) -> str:
    return f"V = {curve['vocab_size']:,}, {_NAMES[name]}"


def turns() -> str:
    """Give the two times of each server, and what they foretell if only the ends of its curve are known."""
    rows, errors = [], {"samplerd": 0.0, "empty": 0.0}
    for curve in _curves():
        calls, rates = curve["in_flight"], _rates(curve)
        own = _fit(curve)
        ends = fit_turns([calls[0], calls[-1]], [rates[0], rates[-1]])
        ratios = [ends.calls_per_s(number) / rate for number, rate in zip(calls, rates, strict=True)][1:-1]
        kind = "empty" if "empty" in curve["transport"] else "samplerd"
        errors[kind] = max(errors[kind], *(abs(ratio - 1) for ratio in ratios))
        rows.append(
            [
                _title(curve, curve["transport"]),
                f"{1e6 * own.turn_s:,.0f}",
                f"{1e6 * own.call_s:,.0f}",
                f"{own.turn_s / own.call_s:.1f}",
                f"{min(ratios):.2f} to {max(ratios):.2f}",
            ]
        )
    header = ["", "us a turn", "us a call", "their ratio", "foretold over measured"]
    calls = _curves()[0]["in_flight"]
    worst = [f"{100 * errors[kind]:.0f} %" for kind in ("samplerd", "empty")]
    text = (
        f"Fitted to the rates with {calls[0]} to {calls[-1]} calls in flight. The last column fits the two ends alone\n"
        f"and foretells what is between them: {worst[0]} beside what was measured of samplerd at most,\n"
        f"and {worst[1]} of empty handlers."
    )
    return f"{markdown(header, rows)}\n\n{text} {origin_of(stored_result('concurrency'))}"


def waits() -> str:
    """Set both models beside what was measured with independent callers."""
    result = stored_result("latency")
    fits = {(curve["transport"], curve["vocab_size"]): _fit(curve) for curve in _curves()}
    rows = []
    excess: dict[str, list[float]] = {name: [] for name in _NAMES}
    for cell in (own for own in result["cells"] if own["spread"] == "poisson"):
        alone = sojourn(cell["rate"], 1 / cell["capacity"])
        together, calls = fits[cell["name"], cell["vocab_size"]].sojourn(cell["rate"])
        measured = cell["latency_ms"]
        excess[cell["name"]] += [measured["p50"] / (1e3 * together.p50_s), measured["p99"] / (1e3 * together.p99_s)]
        rows.append(
            [
                _title(cell, cell["name"]),
                f"{cell['rate'] / cell['capacity']:.2f}",
                *(f"{1e3 * own:.2f}" for own in (alone.p50_s, together.p50_s)),
                f"{measured['p50']:.2f}",
                *(f"{1e3 * own:.2f}" for own in (alone.p99_s, together.p99_s)),
                f"{measured['p99']:.2f}",
                f"{calls:.1f}",
            ]
        )
    header = [
        "",
        "load",
        "p50: one by one",
        "in turns",
        "measured",
        "p99: one by one",
        "in turns",
        "measured",
        "calls a turn",
    ]
    ratios = [f"{_NAMES[name]}: {min(own):.1f} to {max(own):.1f}" for name, own in excess.items()]
    return (
        f"{markdown(header, rows)}\n\nMilliseconds from the intended start. {origin_of(result)}\n\n"
        f"Measured over modelled in turns, both p50 and p99: {'; '.join(ratios)}."
    )


def fleets() -> str:
    """Spread the calls that fill ten replicas over more of them: what a call costs and waits. A line for each fleet."""
    served = [own for own in _curves() if "empty" not in own["transport"]]
    rows = []
    for curve in served:
        own = _fit(curve)
        total = _FLEETS[0] * _FULL * own.capacity
        for replicas in _FLEETS:
            rate = total / replicas
            times, calls = own.sojourn(rate)
            rows.append(
                [
                    _title(curve, curve["transport"]),
                    f"{total:,.0f}",
                    f"{replicas:,}",
                    f"{100 * rate / own.capacity:.2g} %",
                    f"{1e6 * own.service_s(calls):,.0f}",
                    f"{calls:.1f}",
                    f"{1e3 * times.p99_s:.1f}",
                    f"{rate * times.mean_s:.2g}",
                ]
            )
    header = ["rows and transport", "calls/s of all", "replicas", "how full each is"]
    header += ["us of a server a call", "calls a turn", "p99, ms", "calls in flight at each"]
    few, many = served[0]["in_flight"][0], served[0]["in_flight"][-1]
    dearer = [[_title(own, own["transport"]), f"{_few_over_many(own):.1f}"] for own in served]
    return (
        f"{markdown(header, rows)}\n\nComputed with the model in turns from what was measured. "
        f"{origin_of(stored_result('concurrency'))}\n\n"
        f"What a call takes of a server is only partly processor time. What was measured of that alone:\n\n"
        f"{markdown(['rows and transport', f'processor time a call: {few} in flight over {many}'], dearer)}"
    )


def links() -> str:
    """Say what the rows of fleets take of networks, and what they cost in shared memory instead."""
    local = {(own["vocab_size"], own["rows"]): own["measured"] for own in stored_result("shared_memory")["sizes"]}
    rows = []
    for shape in stored_result("served")["shapes"]:
        for transport in ("grpcio", "envoy"):
            calls = _PLANNED * shape["measured"][f"{transport} f32"]["calls_per_s"]
            bits = 8 * calls * shape["request_bytes"]["f32"]
            shared = local.get((shape["vocab_size"], shape["rows"]))
            saved = "not measured"
            if shared is not None:
                sent, mapped = (shared[f"{transport} {how}"]["cpu_us_per_row"] for how in ("sent", "shared"))
                saved = f"{mapped / sent:.2f}"
            rows.append(
                [
                    f"V = {shape['vocab_size']:,}, {shape['rows']} a call, {transport}",
                    f"{bits / 1e9:.2f}",
                    *(f"{bits * replicas / 1e12:.2f}" for replicas in _FLEETS[1:]),
                    *(f"{link * 1e9 / bits:,.0f}" for link in _LINKS_GBIT),
                    saved,
                ]
            )
    header = [
        "",
        "Gbit/s of one",
        *(f"Tbit/s of {replicas:,}" for replicas in _FLEETS[1:]),
        *(f"replicas on {link} Gbit/s" for link in _LINKS_GBIT),
        "CPU in shared memory, of sent",
    ]
    return f"{markdown(header, rows)}\n\nF32 rows at half of the highest rate. {origin_of(stored_result('served'))}"
