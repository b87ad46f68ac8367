"""How many replicas there are to be: a pure rule, and the numbers that it takes from a page of metrics.

Law. A replica's load is the processor time that its samplerd takes, as a share of the CPUs that it was given, divided
by the share that is aimed at (`AIM`); it is at least `WAITING_LOAD` while more than `WAITING_CALLS` calls wait in it.
With n replicas of mean load l, n l are wanted, rounded up. A number below n is raised by one if n l lies within `SLACK`
below it, so that the number does not go up and down. Ray Serve waits before it follows.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["AIM", "LOAD", "Load", "policy", "wanted"]

AIM = 0.7
"""Of the CPUs given: above it calls begin to wait, since they come when they like."""
WAITING_CALLS = 16
WAITING_LOAD = 1.5
SLACK = 0.1
LOAD = "samplerd_load"
"""The name under which a replica reports its load to Ray Serve."""
_SAMPLE = re.compile(r"^(\w+)(?:\{[^}]*\})? (\S+)", re.MULTILINE)
_CPU = "process_cpu_seconds_total"
_WAITING = ("samplerd_transport_waiting_calls", "samplerd_queue_rows")


@dataclass(slots=True)
class Load:
    """Measures the load between two looks at a page of metrics. One replica's, on its event loop."""

    cpus: float
    """Given to the replica; 0 counts as 1."""
    _before: tuple[float, float] | None = None

    def of(self, page: str, now: float) -> float:
        """Return the load since the last look; 0 at the first one, and where the page is empty.

        Args:
            page: the text of /metrics.
            now: seconds of a clock that never goes back.

        """
        found: dict[str, float] = {}
        for name, value in _SAMPLE.findall(page):
            if name in {_CPU, *_WAITING}:
                found[name] = found.get(name, 0.0) + float(value)
        if _CPU not in found:
            return 0.0
        before, self._before = self._before, (found[_CPU], now)
        if before is None or now <= before[1]:
            return 0.0
        busy = (found[_CPU] - before[0]) / (now - before[1])
        load = busy / (self.cpus or 1.0) / AIM
        waiting = sum(found.get(name, 0.0) for name in _WAITING)
        return max(load, WAITING_LOAD) if waiting > WAITING_CALLS else load


def wanted(replicas: int, loads: Sequence[float], least: int, most: int) -> int:
    """Return how many replicas there are to be.

    Args:
        replicas: how many there are to be until now.
        loads: of those that report it.
        least: the fewest.
        most: the most.

    """
    if not loads or replicas == 0:
        return max(least, replicas)
    total = replicas * sum(loads) / len(loads)
    number = max(1, math.ceil(total - 1e-9))
    if number < replicas and total > number - SLACK:
        number += 1
    return max(least, min(most, number))


def policy(context: Any) -> tuple[int, dict[str, Any]]:
    """Decide for Ray Serve, which calls this with its `AutoscalingContext`."""
    loads = list((context.aggregated_metrics or {}).get(LOAD, {}).values())
    number = wanted(
        context.target_num_replicas,
        loads,
        context.capacity_adjusted_min_replicas,
        context.capacity_adjusted_max_replicas,
    )
    return number, {}
