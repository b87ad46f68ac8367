"""The compiled scan of requests, where anything can be compiled."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from samplerd_server.transport.codec.scan import Scanned

__all__ = ["compiled_scan"]


def compiled_scan() -> Callable[[bytes], Scanned] | None:
    """Load the scan of requests, or compile it; None where numba is not installed."""
    if find_spec("numba") is None:
        return None
    from samplerd_server.transport.codec.scan import scan  # noqa: PLC0415  # it imports numba

    scan(b"")
    return scan
