"""Many texts at once: one forward pass here for all of them, one row a text and step to samplerd.

Every text has its own seed, and the draw index is the position in the text. So a text depends on its opening, its
temperature and its seed alone, not on which other texts are written beside it.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from examples.charlm.model import CharModel
    from samplerd_client import SampleStream

__all__ = ["Draw", "Generation", "Text", "draw_from", "generate"]


class Draw(Protocol):
    """Draws one id from one row of logits."""

    async def __call__(self, row: NDArray[np.float32], *, temperature: float, seed: int, draw_offset: int) -> int:
        """Return the id that was drawn."""
        ...


@dataclass(slots=True, kw_only=True)
class Text:
    """One text. `generate` writes it."""

    opening: str
    """What it begins with; may be empty."""
    temperature: float
    """T: 0 always takes the likeliest character, higher is bolder."""
    seed: int
    """With the opening and the temperature, decides the text."""
    ids: list[int] = field(default_factory=list)
    """What was written so far, the opening included."""
    written: str = ""
    """The same as characters."""
    is_complete: bool = False
    """The model ended it; otherwise it stopped at the limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """What generating took."""

    steps: int
    """Forward passes."""
    rows: int
    """Rows that samplerd drew from: one a text and step."""
    forward_s: float
    """Seconds in the model's forward pass, here."""
    draw_s: float
    """Seconds waiting for samplerd."""


def draw_from(stream: SampleStream) -> Draw:
    """Draw over an open stream of samplerd: each row is a request of its own."""

    async def draw(row: NDArray[np.float32], *, temperature: float, seed: int, draw_offset: int) -> int:
        result = await stream.sample(row, temperature=temperature, seed=seed, draw_offset=draw_offset)
        return int(result.samples[0, 0])

    return draw


async def generate(
    model: CharModel,
    texts: Sequence[Text],
    draw: Draw,
    *,
    max_chars: int = 90,
    on_step: Callable[[Sequence[Text]], None] | None = None,
) -> Generation:
    """Write all texts to their ends, or to `max_chars` characters.

    Each step is one forward pass of the texts that go on, then one row for each of them, all in flight together:
    samplerd draws them in as few batches as it can. `on_step` sees the texts after every step.
    """
    forward_s = draw_s = 0.0
    steps = rows = 0
    for text in texts:
        text.ids = model.encode(text.opening)
        text.written = text.opening
    while growing := [text for text in texts if not text.is_complete and len(text.written) < max_chars]:
        started = time.perf_counter()
        # In a thread, so that the loop can serve the connection meanwhile.
        logits = await asyncio.to_thread(model.logits, model.windows([text.ids for text in growing]))
        computed = time.perf_counter()
        drawn = await asyncio.gather(
            *(
                draw(row, temperature=text.temperature, seed=text.seed, draw_offset=len(text.ids))
                for text, row in zip(growing, logits, strict=True)
            )
        )
        forward_s += computed - started
        draw_s += time.perf_counter() - computed
        for text, char in zip(growing, drawn, strict=True):
            if char == model.boundary:
                text.is_complete = True
            else:
                text.ids.append(char)
                text.written += model.chars[char]
        steps += 1
        rows += len(growing)
        if on_step is not None:
            on_step(texts)
    return Generation(steps=steps, rows=rows, forward_s=forward_s, draw_s=draw_s)
