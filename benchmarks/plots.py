"""How pictures of results look, and their files: PNG and SVG. A scenario draws its own."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt  # after the backend is chosen

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "LABELS", "OURS", "REFERENCE", "grouped_bars", "plt", "save"]

OURS, REFERENCE = "#2a6f97", "#adb5bd"
COLOURS = {"empty": REFERENCE, "grpcio": OURS, "envoy": "#e07a1f"}
"""Of who was measured, the same in every picture."""
LABELS = {"empty": "empty grpc.aio handler", "grpcio": "samplerd, grpcio", "envoy": "samplerd, envoy"}
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


def grouped_bars(
    ax: Axes,
    groups: Sequence[str],
    series: Mapping[str, Sequence[Sequence[float]]],
    above: Mapping[str, Sequence[str]],
    *,
    log: bool = True,
) -> None:
    """Draw one bar for each group and each of who was measured: its height the median, every round a dot.

    Args:
        ax: where to.
        groups: their labels.
        series: for who was measured (a key of `COLOURS`), each group's rounds.
        above: what stands above the bars, for those who have it.
        log: a logarithmic scale, for rates that differ by powers of ten.

    """
    width = 0.8 / len(series)
    for place, (who, values) in enumerate(series.items()):
        for index, rounds in enumerate(values):
            x = index + (place - (len(series) - 1) / 2) * width
            height = statistics.median(rounds)
            label = LABELS.get(who, who) if index == 0 else None
            ax.bar(x, height, width=0.94 * width, color=COLOURS.get(who), label=label)
            ax.plot([x] * len(rounds), rounds, ".", color="black", markersize=3, alpha=0.6)
            if who in above:
                at = (x, max(rounds))
                ax.annotate(above[who][index], at, (0, 4), textcoords="offset points", ha="center", fontsize=9)
    if log:
        ax.set_yscale("log")
    ax.set_xticks(range(len(groups)), groups)
    ax.margins(y=0.12)
