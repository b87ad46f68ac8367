"""How pictures of results look, and their files: PNG and SVG. A scenario draws its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt  # after the backend is chosen

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

__all__ = ["OURS", "REFERENCE", "plt", "save"]

OURS, REFERENCE = "#2a6f97", "#adb5bd"
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
