"""Which policy of the system's scheduler a process asks for."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, subprocess, sys
from threading import Thread
from samplerd_server.process.scheduling import let_others_finish
{before}
is_set = let_others_finish()
found = []
thread = Thread(target=lambda: found.append(os.sched_getscheduler(0)))
thread.start()
thread.join()
child = subprocess.run([sys.executable, "-c", "import os; print(os.sched_getscheduler(0))"], capture_output=True)
print(is_set, os.sched_getscheduler(0), found[0], int(child.stdout))
"""


def policies(before: str = "pass") -> list[str]:
    program = PROGRAM.format(before=before)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.split()


def test_threads_and_processes_inherit_the_policy_for_throughput():
    assert policies() == ["True", *[str(os.SCHED_BATCH)] * 3]


def test_a_policy_that_somebody_has_chosen_is_left_alone():
    chosen = "os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))"
    assert policies(chosen) == ["False", *[str(os.SCHED_IDLE)] * 3]


@pytest.mark.parametrize(
    "before",
    [
        pytest.param("del os.sched_getscheduler", id="another system"),
        pytest.param("def refuse(*_): raise PermissionError\nos.sched_setscheduler = refuse", id="a sandbox"),
    ],
)
def test_where_it_cannot_be_had_a_process_goes_on(before):
    program = f"import os\nfrom samplerd_server.process.scheduling import let_others_finish\n{before}\n"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}print(let_others_finish())"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.split() == ["False"]
