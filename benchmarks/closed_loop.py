"""A polite client: one call at a time on one connection, and a pause after each."""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.http2 import Connection, header_block
from benchmarks.load import SAMPLE_PATH, LoadError, frame

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["call_in_turn"]

_PATIENCE_S = 20.0
_PAUSE_S = 2e-3


def call_in_turn(port: int, message: bytes, seconds: float, *, socket_path: Path | None = None) -> NDArray[np.float64]:
    """Call for so many seconds; give how long each call took, in seconds.

    Raises:
        LoadError: a call was refused, or not answered at all.

    """
    link = Connection(port, header_block(SAMPLE_PATH, f"127.0.0.1:{port}", "polite"), frame(message), socket_path)
    durations: list[float] = []
    try:
        until = time.perf_counter() + seconds
        while (began := time.perf_counter()) < until:
            link.submit(len(durations))
            is_done = False
            while not is_done:
                link.send()
                if time.perf_counter() > began + _PATIENCE_S:
                    raise LoadError(f"a call was not answered within {_PATIENCE_S:g} s")
                if select.select([link], [link] if link.wants_to_write else [], [], 1.0)[0]:
                    is_done = bool(link.receive())
            durations.append(time.perf_counter() - began)
            time.sleep(_PAUSE_S)
        if link.refused:
            raise LoadError(f"{len(link.refused)} of {len(durations)} calls were refused")
    finally:
        link.close()
    return np.array(durations)
