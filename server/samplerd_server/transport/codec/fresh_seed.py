"""Random seeds for requests without one. Event loop."""

from __future__ import annotations

import os

import numpy as np

__all__ = ["fresh_seed"]

_AT_ONCE = 512
"""Seeds of one system call."""
_ready: list[int] = []


def fresh_seed() -> int:
    """Draw a seed that nobody can predict. The system is asked for many at once, which is cheap."""
    if not _ready:
        _ready.extend(np.frombuffer(os.urandom(8 * _AT_ONCE), np.uint64).tolist())
    return _ready.pop()
