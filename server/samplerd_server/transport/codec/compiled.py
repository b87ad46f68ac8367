"""The compiled loops of the codec, where anything can be compiled: loaded at the start, never on a request."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from samplerd_server.transport.codec.scan import Scanned

__all__ = ["compiled_scan", "compiled_varints"]


def compiled_scan() -> Callable[[bytes], Scanned] | None:
    """Load the scan of requests, or compile it; None where numba is not installed."""
    if find_spec("numba") is None:
        return None
    from samplerd_server.transport.codec.scan import scan  # noqa: PLC0415  # it imports numba

    scan(b"")
    return scan


@cache
def compiled_varints() -> Callable[[NDArray[np.int32]], NDArray[np.uint8]] | None:
    """Load the loop that writes varints, or compile it; None where numba is not installed."""
    if find_spec("numba") is None:
        return None
    from samplerd_server.transport.codec.varints import varints  # noqa: PLC0415  # it imports numba

    varints(np.zeros(1, np.int32))
    return varints
