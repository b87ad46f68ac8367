"""The compiled loops of the codec, where anything can be compiled: loaded at the start, never on a request."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from samplerd_server.transport.codec.plain_scan import plain_scan

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from samplerd_server.transport.codec.scanned import Scanned

__all__ = ["compiled_scan", "compiled_varints", "forgo_compiler"]

_forgoes = False
"""Whether this process does without compiled loops although it could have them."""


def forgo_compiler() -> None:
    """Load nothing that is compiled from now on: the compiler takes more memory and time than a door has use for."""
    global _forgoes  # noqa: PLW0603  # a property of the process
    _forgoes = True


def _has_compiler() -> bool:
    return not _forgoes and find_spec("numba") is not None


def compiled_scan() -> Callable[[bytes], Scanned] | None:
    """Load the scan of requests, or compile it; None where numba is not installed.

    A process that does without the compiler gets a scan in Python, which takes longer and finds the same.
    """
    if _forgoes:
        return plain_scan
    if not _has_compiler():
        return None
    from samplerd_server.transport.codec.scan import scan  # noqa: PLC0415  # it imports numba

    scan(b"")
    return scan


@cache
def compiled_varints() -> Callable[[NDArray[np.int32]], NDArray[np.uint8]] | None:
    """Load the loop that writes varints, or compile it; None where numba is not installed."""
    if not _has_compiler():
        return None
    from samplerd_server.transport.codec.varints import varints  # noqa: PLC0415  # it imports numba

    varints(np.zeros(1, np.int32))
    return varints
