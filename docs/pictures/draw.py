"""Draw the pictures of docs/sampling.md, docs/noise.md and docs/batching.md.

Every bar is what the float64 reference says, so a picture cannot disagree with the law. Run it from the root of the
repository: ``python docs/pictures/draw.py``; the SVGs come out the same bytes each time.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt

from samplerd_client.philox import uniforms
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


def bare(axes: Axes) -> None:
    """Take away all but the drawing."""
    axes.set_yticks([])
    axes.tick_params(colors=INK, length=0, labelsize=9)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)


def noise() -> None:
    """Draw how the uniforms of the seed 42 fall on the probabilities of [1.0, 2.0, 0.5, 1.5] at T = 0.7."""
    logits = np.array([1.0, 2.0, 0.5, 1.5])
    p = np.exp(logits / 0.7) / np.exp(logits / 0.7).sum()
    ends = p.cumsum()
    numbers = uniforms(42, 4)
    shown, axes = plt.subplots(figsize=(8, 2.1), layout="constrained")
    for token, (end, width) in enumerate(zip(ends, p, strict=True)):
        axes.barh(0, width, left=end - width, height=0.5, color=KEPT if token % 2 else "#7fa9c4", edgecolor="white")
        axes.text(end - width / 2, 0, f"id {token}\n{width:.2f}", ha="center", va="center", color="white", fontsize=9)
    for draw, u in enumerate(numbers):
        token = int(np.searchsorted(ends, u, side="right"))
        axes.annotate("", (u, 0.25), (u, 0.75), arrowprops={"arrowstyle": "->", "color": GUIDE, "linewidth": 1.4})
        text = f"draw {draw}\nu = {u:.3f}\n\u2192 id {token}"
        axes.text(u, 0.78, text, ha="center", va="bottom", color=INK, fontsize=9)
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.3, 1.5)
    axes.set_xticks([0, *ends.round(3)[:-1], 1])
    bare(axes)
    shown.savefig(HERE / "noise.svg", metadata={"Date": None})
    plt.close(shown)


def batches() -> None:
    """Draw which requests share a batch where they arrive at random, and a batch of n rows takes 100 + 10 n us.

    The rule is that of docs/batching.md, without a batch closed ahead: an idle device takes all that is in the queue.
    """
    sparse = np.random.default_rng(3).exponential(260.0, 9).cumsum()
    dense = sparse[-1] + 200.0 + np.random.default_rng(4).exponential(22.0, 70).cumsum()
    arrivals = np.concatenate([sparse, dense])
    shown, axes = plt.subplots(figsize=(9, 2.2), layout="constrained")
    free, first = 0.0, 0
    while first < len(arrivals):
        start = max(free, arrivals[first])
        last = int(np.searchsorted(arrivals, start, side="right"))
        free = start + 100.0 + 10.0 * (last - first)
        axes.barh(0, free - start, left=start, height=0.5, color=KEPT, edgecolor="white")
        axes.text((start + free) / 2, 0, str(last - first), ha="center", va="center", color="white", fontsize=8)
        first = last
    axes.vlines(arrivals, 0.55, 0.85, color=GUIDE, linewidth=0.9)
    axes.text(-40, 0.7, "requests arrive", ha="right", va="center", color=INK, fontsize=9)
    axes.text(-40, 0, "batches, and\nhow many rows", ha="right", va="center", color=INK, fontsize=9)
    axes.set_xlim(-650, free + 20)
    axes.set_ylim(-0.35, 1)
    axes.set_xticks(np.arange(0, free, 1000), [f"{at / 1000:g} ms" for at in np.arange(0, free, 1000)])
    bare(axes)
    shown.savefig(HERE / "batching.svg", metadata={"Date": None})
    plt.close(shown)


def main() -> None:
    """Write the pictures."""
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
    noise()
    batches()


if __name__ == "__main__":
    main()
