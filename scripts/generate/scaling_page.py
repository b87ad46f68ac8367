"""docs/scaling.md: what a server costs; the model of its queue is in `modelled`."""

from __future__ import annotations

from benchmarks.report import markdown
from scripts.generate.figures import origin_of, stored_result, stored_table
from scripts.generate.modelled import fleets, links, turns, waits
from scripts.generate.sections import replace_sections

__all__ = ["page"]


def page() -> str:
    """Give docs/scaling.md as text, its generated tables renewed."""
    return replace_sections(
        "docs/scaling.md",
        **{
            "measured costs": _costs(),
            "measured workers": _workers(),
            "measured sizes": _sizes(),
            "modelled turns": turns(),
            "modelled waits": waits(),
            "modelled fleets": fleets(),
            "modelled links": links(),
        },
    )


def _costs() -> str:
    """Give the processor time of a million rows: as many seconds as a row takes microseconds."""
    result = stored_result("served")
    rows = [
        [
            f"V = {shape['vocab_size']:,}, {shape['rows']} row{'s' * (shape['rows'] > 1)} a call",
            *(f"{shape['measured'][f'{transport} f32']['cpu_us_per_row']:,.0f}" for transport in ("grpcio", "envoy")),
        ]
        for shape in result["shapes"]
    ]
    table = markdown(["core-seconds, f32", "grpcio", "envoy"], rows)
    return f"{table}\n\n{origin_of(result)}"


def _workers() -> str:
    """Give the table of workers, and what the second one costs."""
    sizes = stored_result("workers")["sizes"]
    time, memory = [], []
    for own in sizes:
        one, two = own["measured"]["1"], own["measured"]["2"]
        time.append(100 * (two["cpu_us_per_row"] / one["cpu_us_per_row"] - 1))
        memory.append(own["pss_bytes"]["2"] / own["pss_bytes"]["1"])
    price = (
        f"Two workers take {min(memory):.1f} to {max(memory):.1f} times the memory of one,\n"
        f"and {min(time):.0f} to {max(time):.0f} % more processor time for each row."
    )
    return f"{stored_table('workers')}\n\n{price}"


def _sizes() -> str:
    """Give the memory and the start of a server, and the memory after a million calls."""
    idle, memory = stored_result("idle"), stored_result("memory")
    after = {own["transport"]: own for own in memory["servers"]}
    rows = [
        [
            own["transport"],
            f"{own['rss_bytes'] / 2**20:.0f}",
            f"{after[own['transport']]['after_bytes'] / 2**20:.0f}",
            f"{own['start_s']:.1f}",
        ]
        for own in idle["servers"]
    ]
    calls = f"{memory['servers'][0]['requests']:,}"
    table = markdown(["server", "MiB, idle", f"MiB after {calls} calls", "s until it serves"], rows)
    return f"{table}\n\nResident memory of all its processes. {origin_of(idle)}\n{origin_of(memory)}"
