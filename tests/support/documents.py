"""The blocks of code of a page of Markdown, and what the comment above each says of it.

A block that is not run says why: ``<!-- not run: it serves until it is stopped -->``. One that is run by the tests of
another file says which: ``<!-- as in client/go/README.md -->``. A block below ``<!-- prints -->`` is what the block
before it prints. Every other block in Python or a shell runs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PAGES", "ROOT", "Block", "blocks_of"]

ROOT = Path(__file__).parents[2]
PAGES = (
    "README.md",
    "docs/distributions.md",
    "docs/engines.md",
    "docs/from_numpy_torch_jax.md",
    "docs/noise.md",
    "docs/tutorial_batches.md",
    "docs/tutorial_grpc_client.md",
    "docs/tutorial_operator.md",
)
"""The pages whose blocks run. client/python/README.md, docs/by_hand.md and docs/sampling.md have tests of their own."""

_BLOCK = re.compile(
    r"(?:^<!-- (?P<marker>[^\n]*?) -->\n+)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One block of code of a page."""

    page: str
    number: int
    """Its place on the page, from 0."""
    language: str
    marker: str
    """The comment directly above it; empty without one."""
    text: str
    printed: str | None
    """What the page says that it prints; None if the page does not say."""

    @property
    def runs(self) -> bool:
        """Whether the test of the pages runs it."""
        return not self.marker and self.language in {"python", "sh"}

    @property
    def lines(self) -> list[str]:
        """The commands of a shell's block, continued lines joined, without comments."""
        lines = [re.sub(r"\s+#.*$", "", line) for line in self.text.replace("\\\n", " ").splitlines()]
        return [line for line in lines if line.strip()]


def blocks_of(page: str) -> list[Block]:
    """Return the blocks of a page, in order; page: within the repository."""
    found = list(_BLOCK.finditer((ROOT / page).read_text(encoding="utf-8")))
    after = [*found[1:], None][: len(found)]
    return [
        Block(
            page=page,
            number=number,
            language=own["language"],
            marker=own["marker"] or "",
            text=own["text"],
            printed=follower["text"] if follower and follower["marker"] == "prints" else None,
        )
        for number, (own, follower) in enumerate(zip(found, after, strict=True))
    ]
