"""Keeping machine code true to its sources: numba looks at the file of an entry point only.

The kernels here are made of parts of `kernels/`; whatever changes there or here makes what is cached here stale.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

__all__ = ["forget_stale"]


def forget_stale() -> None:
    """Drop cached machine code of this package that is older than any source that it may be made of."""
    here = Path(__file__).parent
    sources = [*here.glob("*.py"), *(here.parent / "kernels").glob("*.py")]
    newest = max(source.stat().st_mtime for source in sources)
    for index in (here / "__pycache__").glob("*.nbi"):
        with suppress(OSError):  # another process was first, or the folder is read-only: then nothing was edited either
            if index.stat().st_mtime < newest:
                index.unlink()
