"""Draw the pictures of docs/sampling.md: what temperature, top-p and min-p do to a distribution.

Every bar is what the float64 reference says, so a picture cannot disagree with the law. Run it from the root of the
repository: ``python docs/pictures/draw.py``; the SVGs come out the same bytes each time.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt

from samplerd_server.core.enums import Dtype, LogprobKind
from samplerd_server.core.params import SamplingParams
from samplerd_server.core.request import SampleRequest
from samplerd_server.core.rows import DenseRows
from samplerd_server.sampling.reference.pipeline import sample

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

HERE = Path(__file__).parent
WORDS = ["the", "a", "his", "my", "her", "this", "our", "one", "no", "some", "two", "any"]
LOGITS = np.array([3.0, 2.6, 2.1, 1.9, 1.4, 1.1, 0.7, 0.4, 0.0, -0.5, -1.0, -1.6], np.float32)
KEPT, DROPPED, INK, GUIDE = "#2f6f9f", "#cfd8df", "#22303a", "#c0562b"


def distributions(**fields: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the scaled and the processed probabilities of the example under some parameters."""
    source = DenseRows(dtype=Dtype.F32, rows=1, vocab_size=len(LOGITS), data=LOGITS.tobytes())
    own = SamplingParams(is_plain=False, **fields)
    outcome = sample(SampleRequest(id=0, source=source, params=(own,)))[0]
    scaled = np.exp(outcome.distributions[LogprobKind.SCALED].logprobs)
    processed = np.zeros(len(LOGITS))
    kept = outcome.distributions[LogprobKind.PROCESSED]
    processed[kept.ids] = np.exp(kept.logprobs)
    return scaled, processed


def panel(axes: Axes, title: str, **fields: Any) -> NDArray[np.float64]:
    """Draw one distribution: what is kept in colour, what is dropped in grey."""
    scaled, processed = distributions(**fields)
    colours = [KEPT if p > 0 else DROPPED for p in processed]
    axes.bar(range(len(WORDS)), scaled, color=colours, width=0.8)
    axes.set_title(title, color=INK, fontsize=11, loc="left")
    axes.set_xticks(range(len(WORDS)), WORDS, rotation=60, ha="right", rotation_mode="anchor")
    axes.tick_params(colors=INK, length=0, labelsize=9)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(DROPPED)
    axes.yaxis.grid(visible=True, color="#e9eef2")
    axes.set_axisbelow(True)
    kept = int((processed > 0).sum())
    if kept < len(WORDS):
        text = f"keeps {kept} of {len(WORDS)}\n{scaled[processed > 0].sum():.0%} of the mass"
        axes.text(0.98, 0.95, text, transform=axes.transAxes, ha="right", va="top", color=INK, fontsize=9)
    return scaled


def figure(name: str, panels: list[tuple[str, dict[str, Any]]], threshold: Any = None) -> None:
    """Draw panels side by side, on one scale; `threshold` is a height to mark in each."""
    shown, rows = plt.subplots(1, len(panels), figsize=(3.5 * len(panels), 2.9), sharey=True, layout="constrained")
    for axes, (title, fields) in zip(rows, panels, strict=True):
        scaled = panel(axes, title, **fields)
        if threshold is not None:
            axes.axhline(threshold(scaled, fields), color=GUIDE, linewidth=1.2, linestyle="--")
    rows[0].set_ylabel("probability", color=INK, fontsize=9)
    shown.savefig(HERE / f"{name}.svg", metadata={"Date": None})
    plt.close(shown)


def main() -> None:
    """Write the three pictures."""
    mpl.rcParams.update({"svg.hashsalt": "samplerd", "svg.fonttype": "path", "font.family": "DejaVu Sans"})
    figure("temperature", [(f"T = {t:g}", {"temperature": t}) for t in (0.5, 1.0, 2.0)])
    figure(
        "top_p",
        [
            ("top_p = 0.5", {"top_p": 0.5}),
            ("top_p = 0.9", {"top_p": 0.9}),
            ("top_p = 0.9, T = 2", {"top_p": 0.9, "temperature": 2.0}),
        ],
    )
    figure(
        "min_p",
        [
            ("min_p = 0.3", {"min_p": 0.3}),
            ("min_p = 0.1", {"min_p": 0.1}),
            ("min_p = 0.3, T = 2", {"min_p": 0.3, "temperature": 2.0}),
        ],
        lambda scaled, fields: fields["min_p"] * scaled.max(),
    )


if __name__ == "__main__":
    main()
