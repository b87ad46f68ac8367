"""How many calls Envoy has whose handlers have not begun: asked of its admin interface at a scrape."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from samplerd_server.transport.envoy.admin import Admin

__all__ = ["ActiveCalls"]

_CALLS, _CONNECTIONS = "rq", "cx"
"""Envoy's abbreviations of what it counts."""


class ActiveCalls:
    """Asks Envoy, which this process is a part of."""

    def __init__(self, admin: Admin, running: Callable[[], int]) -> None:
        """Take the admin interface, and what counts the calls that run."""
        self._admin = admin
        self._running = running

    def waiting(self) -> int:
        """Count the calls that wait for their handlers; 0 if Envoy does not answer. Blocks."""
        return max(0, self._active(_CALLS) - self._running())

    def connections(self) -> int:
        """Count the connections of clients; 0 if Envoy does not answer. Blocks."""
        return self._active(_CONNECTIONS)

    def _active(self, what: str) -> int:
        name = f"^http.ingress_http.downstream_{what}_active$"
        try:
            stats = json.loads(self._admin.get(f"/stats?format=json&filter={name}"))["stats"]
        except OSError:
            return 0
        return sum(int(own["value"]) for own in stats)
