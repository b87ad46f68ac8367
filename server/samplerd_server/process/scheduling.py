"""How the system schedules a process that hands work to another one on the same cores."""

from __future__ import annotations

import os

__all__ = ["let_others_finish"]


def let_others_finish() -> bool:
    """Let whatever runs on a core finish its turn before this process is put there, where the system is Linux.

    A thread that is woken usually interrupts the one that runs. Among doors and their engine that happens for every
    message: a door is interrupted in the middle of what it would send, so that the engine is woken for a part of it and
    draws a smaller batch, and grpcio's poller interrupts its own event loop for each call. As SCHED_BATCH, the system's
    class for work that is measured by its throughput, a thread that is woken waits for the one that runs, for a few
    milliseconds at most, and its share of the processor stays the same. Where a core is idle, it runs at once.

    Call it before the process starts threads: they inherit it, as the processes that it starts do. A policy that
    somebody has chosen already is left alone.

    Returns:
        Whether the process is scheduled so now.

    """
    try:
        if os.sched_getscheduler(0) == os.SCHED_OTHER:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        return os.sched_getscheduler(0) == os.SCHED_BATCH
    except (AttributeError, OSError):  # another system, or a sandbox that does not allow it
        return False
