"""Servers with doors: which processes are doors, and clients that reach all of them."""

from __future__ import annotations

import json
from typing import Any

from tests.support.daemon import Daemon
from tests.support.processes import children, descendants
from tests.support.worker_pool import Crowd

__all__ = ["DOORS", "crowd", "door_processes", "engine_of"]

DOORS = 2


def engine_of(daemon: Daemon) -> int:
    """The process id of the engine that serves now."""
    events = [json.loads(line) for line in tuple(daemon.log) if line.startswith("{")]
    return [event["pid"] for event in events if event["message"] == "engine serving"][-1]


def door_processes(daemon: Daemon) -> list[list[int]]:
    """The processes of each door."""
    engine = engine_of(daemon)
    return [[pid, *descendants(pid)] for pid in children(daemon.process.pid) if pid != engine]


def crowd(daemon: Daemon) -> Any:
    """Stubs of which every door has got some."""
    return Crowd(daemon, door_processes)
