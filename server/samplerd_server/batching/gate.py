"""The gate: whether new requests are taken at all, until the server drains or its device stalls. Event loop."""

from __future__ import annotations

from samplerd_server.core.errors import DRAIN_RETRY_S, UnavailableError

__all__ = ["RETRY_HIGH_S", "Gate"]

RETRY_HIGH_S = 5.0
"""The longest hint when to try again."""


class Gate:
    """Takes requests, until it is closed for good."""

    def __init__(self) -> None:
        self.is_open = True
        """Whether new requests are taken."""
        self.stalled = ""
        """Why the device makes no progress; empty = it does."""
        self._closed_at = 0.0
        self._is_leaving = False

    @property
    def is_ready(self) -> bool:
        """Whether new callers should come here."""
        return self.is_open and not self._is_leaving

    def leave(self) -> None:
        """Say that the server is not ready, because it drains soon."""
        self._is_leaving = True

    def stall(self, why: str) -> None:
        """Refuse every new request from now on, because the device makes no progress."""
        self.is_open, self.stalled = False, why

    def close(self, now: float) -> None:
        """Refuse every new request from now on, because the server drains."""
        self.is_open, self._closed_at = False, now

    def check(self, now: float) -> None:
        """Return if a new request may pass.

        Raises:
            UnavailableError: the server drains, or its device makes no progress.

        """
        if self.is_open:
            return
        if self.stalled:
            raise UnavailableError(f"{self.stalled}; ask another server", reason="DEVICE_STALLED")
        # Connections close once what is in flight is answered, which nobody knows beforehand. So that a client's
        # four attempts outlast a long drain, and a short one costs it little, the hint grows with the drain.
        retry_after_s = min(RETRY_HIGH_S, DRAIN_RETRY_S + 2 * (now - self._closed_at))
        raise UnavailableError("the server is draining; ask another one", retry_after_s=retry_after_s)
