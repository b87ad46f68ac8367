"""The compiled loops of the codec, where there are any: loaded at the start, never on a request."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from samplerd_server.sampling.kernels import linked
from samplerd_server.transport.codec.plain_scan import plain_scan

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from samplerd_server.transport.codec.scanned import Scanned

__all__ = ["compiled_scan", "compiled_varints", "forgo_compiler"]

_forgoes = False
"""Whether this process does without the compiler although it could have it."""


def forgo_compiler() -> None:
    """Load no compiler from now on: it takes more memory and time than a door has use for.

    Loops that another process has linked (`sampling.kernels.linked`) are loaded all the same.
    """
    global _forgoes  # noqa: PLW0603  # a property of the process
    _forgoes = True
    linked.use()


def _has_compiled_loops() -> bool:
    return linked.is_used() or (not _forgoes and find_spec("numba") is not None)


def compiled_scan() -> Callable[[bytes], Scanned] | None:
    """Load the scan of requests, or compile it; None where numba is not installed.

    A process that does without the compiler and finds no linked loops gets a scan in Python, which takes longer and
    finds the same.
    """
    if not _has_compiled_loops():
        return plain_scan if _forgoes else None
    from samplerd_server.transport.codec.scan import scan  # noqa: PLC0415  # it may import numba

    scan(b"")
    return scan


@cache
def compiled_varints() -> Callable[[NDArray[np.int32]], NDArray[np.uint8]] | None:
    """Load the loop that writes varints, or compile it; None where there is none and numba is not installed."""
    if not _has_compiled_loops():
        return None
    from samplerd_server.transport.codec.varints import varints  # noqa: PLC0415  # it may import numba

    varints(np.zeros(1, np.int32))
    return varints
