"""/livez and /readyz: whether the process should be started again, whether callers should come to it, and why not.

Rule 1: answers are made on a thread of the exporter, so an event loop that hangs is told of, not waited for. Rule 2: a
probe succeeds (200) if every one of its checks does, and fails (503) otherwise; ``?verbose`` lists the checks, as
Kubernetes does.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from samplerd_server.metrics.exporter import Page

if TYPE_CHECKING:
    from collections.abc import Callable

    from samplerd_server.metrics.exporter import Exporter

__all__ = ["Probes"]


class Probes:
    """The checks of one process: each has a name, and is a reason to fail or nothing."""

    def __init__(self, stage: str) -> None:
        """Take what the process does at first, which makes it not ready."""
        self._stage = stage
        self._ready: dict[str, Callable[[], str]] = {"start": lambda: self._stage}
        self._live: dict[str, Callable[[], str]] = {}

    def stage(self, what: str) -> None:
        """Say what the process does instead of answering requests; empty = it answers them."""
        self._stage = what

    def watch(self, name: str, reason: Callable[[], str], *, is_live: bool = False) -> None:
        """Add a check.

        Args:
            name: what is checked.
            reason: gives why it fails, or nothing; called on a thread of the exporter.
            is_live: whether /livez fails as well as /readyz.

        """
        self._ready[name] = reason
        if is_live:
            self._live[name] = reason

    def answer_on(self, exporter: Exporter) -> None:
        """Answer at an exporter's address."""
        exporter.add("/livez", lambda query: _page("livez", self._live, query))
        exporter.add("/readyz", lambda query: _page("readyz", self._ready, query))


def _page(name: str, checks: dict[str, Callable[[], str]], query: str) -> Page:
    reasons = {check: reason() for check, reason in tuple(checks.items())}
    is_well = not any(reasons.values())
    verdict = f"{name} check {'passed' if is_well else 'failed'}"
    lines = [f"[-]{check} failed: {reason}" if reason else f"[+]{check} ok" for check, reason in reasons.items()]
    is_verbose = not is_well or "verbose" in query.split("&") or "verbose=" in query
    body = "\n".join([*lines, verdict, ""]) if is_verbose else "ok\n"
    return Page(body, HTTPStatus.OK if is_well else HTTPStatus.SERVICE_UNAVAILABLE)
