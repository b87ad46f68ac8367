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

__all__ = ["COLOURS", "LABELS", "OURS", "REFERENCE", "bars", "plt", "save"]

OURS, REFERENCE = "#2a6f97", "#adb5bd"
COLOURS = {"empty": REFERENCE, "grpcio": OURS, "empty envoy": "#ecc9a5", "envoy": "#e07a1f"}
"""Of who was measured, the same in every picture."""
LABELS = {
    "empty": "empty grpc.aio handler",
    "grpcio": "samplerd, grpcio",
    "empty envoy": "empty handler in Envoy",
    "envoy": "samplerd, envoy",
}
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


def bars(ax: Axes, series: Mapping[str, Sequence[float]], above: Mapping[str, str]) -> None:
    """Draw one bar for each of who was measured: its height the median, every round a dot.

    Args:
        ax: where to.
        series: for who was measured (a key of `COLOURS`), the rounds.
        above: what stands above the bars, for those who have it.

    """
    for place, (who, rounds) in enumerate(series.items()):
        ax.bar(place, statistics.median(rounds), width=0.75, color=COLOURS.get(who))
        ax.plot([place] * len(rounds), rounds, ".", color="black", markersize=4, alpha=0.6)
        if who in above:
            at = (place, max(rounds))
            ax.annotate(above[who], at, (0, 5), textcoords="offset points", ha="center", fontsize=10)
    ax.set_xticks(range(len(series)), list(series))
    ax.yaxis.set_major_formatter("{x:,g}")
    ax.set_ylim(0, 1.15 * max(max(rounds) for rounds in series.values()))
