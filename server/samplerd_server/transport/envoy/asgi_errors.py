"""How a handler learns that its call has ended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Aborted", "DisconnectedError"]


class Aborted(Exception):  # noqa: N818  # named as grpcio names its own
    """The handler ended its call with a status."""

    def __init__(self, code: int, details: str, trailers: Iterable[tuple[str, str | bytes]]) -> None:
        super().__init__(details)
        self.code = code
        self.details = details
        self.trailers = tuple(trailers)


class DisconnectedError(asyncio.CancelledError):
    """Expected: the client has disconnected, or the call has been answered already."""
