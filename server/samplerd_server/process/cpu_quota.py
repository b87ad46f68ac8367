"""How many cores this process may use: those of its affinity, and no more than the quota of its control groups.

A container's limit of 2 CPUs on a machine of 64 cores is a quota of time, not a set of cores: 63 drawing threads would
spend it in the first milliseconds of each period, and then all of them, and the event loop, would stand still.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

__all__ = ["usable_cores"]

_GROUPS = "sys/fs/cgroup"
"""Where control groups are mounted, on every usual system."""


def usable_cores(root: Path = Path("/")) -> int:
    """Give the cores that this process may use, at least 1: a quota of 1.5 cores counts as 2.

    Args:
        root: the root of the file system; a test has its own.

    """
    cores = len(os.sched_getaffinity(0))
    quotas = [quota for quota in _quotas(root) if quota > 0]
    return max(1, min([cores, *(math.ceil(quota) for quota in quotas)]))


def _quotas(root: Path) -> list[float]:
    """Give the quotas, in cores, of the process's group and of those around it; unreadable ones are left out."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        mounts, read = [], _version_1
        if not controllers:
            mounts, read = [root / _GROUPS], _version_2
        elif "cpu" in controllers.split(","):
            mounts = [root / _GROUPS / controllers, root / _GROUPS / "cpu"]
        inner = Path(group.lstrip("/"))
        for mount in mounts:
            # In a container the mount may begin at the container's own group, whose path is that of the host.
            found += [read(mount / part) for part in (inner, *inner.parents)]
    return found


def _version_2(group: Path) -> float:
    """Read ``cpu.max``, as in "150000 100000"; 0 = no quota."""
    try:
        quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
        return 0.0 if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return 0.0


def _version_1(group: Path) -> float:
    """Read ``cpu.cfs_quota_us`` and its period; 0 = no quota."""
    try:
        quota = int((group / "cpu.cfs_quota_us").read_text(encoding="ascii"))
        return quota / int((group / "cpu.cfs_period_us").read_text(encoding="ascii"))
    except (OSError, ValueError, ZeroDivisionError):
        return 0.0
