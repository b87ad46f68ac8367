"""Pictures of results, as PNG and SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt  # after the backend is chosen

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from matplotlib.figure import Figure

__all__ = ["PLOTS", "save"]

_OURS, _REFERENCE = "#2a6f97", "#adb5bd"
mpl.rcParams.update(
    {
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "grid.alpha": 0.3,
        "font.size": 11,
        "svg.hashsalt": "samplerd",  # the same result gives the same file
    }
)


def save(folder: Path, name: str, figure: Figure) -> list[Path]:
    """Write one picture as folder/name.png and folder/name.svg."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.png", folder / f"{name}.svg"]
    figure.savefig(paths[0], dpi=150)
    figure.savefig(paths[1], metadata={"Date": None})
    plt.close(figure)
    return paths


def served(result: dict[str, Any]) -> Figure:
    """Draw calls per second by vocabulary size, beside the empty handler's, every round a dot."""
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    sizes = result["sizes"]
    for place, (who, label, colour) in enumerate(
        [("empty", "empty grpc.aio handler", _REFERENCE), ("samplerd", "samplerd", _OURS)]
    ):
        at = [index + 0.4 * (place - 0.5) for index in range(len(sizes))]
        axes.bar(at, [size[who]["rate"] for size in sizes], width=0.38, color=colour, label=label)
        for x, size in zip(at, sizes, strict=True):
            rates = [entry[who]["rate"] for entry in size["rounds"]]
            axes.plot([x] * len(rates), rates, ".", color="black", markersize=4, alpha=0.6)
    for index, size in enumerate(sizes):
        top = max(max(entry[who]["rate"] for entry in size["rounds"]) for who in ("empty", "samplerd"))
        axes.annotate(f"{size['ratio']:.2f}", (index, top), (0, 8), textcoords="offset points", ha="center")
    axes.set_xticks(range(len(sizes)), [f"V = {size['vocab_size']:,}" for size in sizes])
    axes.set_ylabel("calls per second, one f32 row each")
    axes.set_ylim(0, axes.get_ylim()[1] * 1.08)
    axes.set_title("Served throughput of Sample, and its ratio to an empty handler", fontsize=12)
    axes.legend(frameon=False)
    return figure


def memory(result: dict[str, Any]) -> Figure:
    """Draw resident memory over the requests, with the band that counts as flat."""
    figure, axes = plt.subplots(figsize=(8, 3.5), layout="constrained")
    before = result["before_bytes"] / 2**20
    axes.axhspan(0.95 * before, 1.05 * before, color=_REFERENCE, alpha=0.3, label="within 5 % of the first")
    axes.plot(
        [requests for requests, _ in result["series"]],
        [size / 2**20 for _, size in result["series"]],
        "o-",
        color=_OURS,
        markersize=4,
        label="resident memory",
    )
    axes.set_xlabel("requests after warming up")
    axes.set_ylabel("MiB")
    axes.set_ylim(0, 1.25 * max(size for _, size in result["series"]) / 2**20)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_title("Resident memory of samplerd", fontsize=12)
    axes.legend(frameon=False, loc="lower right")
    return figure


PLOTS: dict[str, Callable[[dict[str, Any]], Figure]] = {"served": served, "memory": memory}
"""What can be drawn, by benchmark."""
