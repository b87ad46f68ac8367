"""No compiled loop reads or writes beside what it was given: it runs between pages that nobody may touch."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any

import pytest

pytest.importorskip("numba")


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """What a process says that a read outside would have ended; it shows the stack then."""
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.support.guarded_kernels"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def test_every_entry_point_stays_inside_what_it_is_given(told):
    assert told["cases"] > 1000
    assert {"draw_plain", "draw_full", "draw_slice", "verify_rows", "_scan", "draw_indexed"} <= told["calls"].keys()
    assert min(told["calls"].values()) > 10, told


def test_a_read_before_or_after_a_row_would_be_found(told):
    assert told["signals"] == {"begin": signal.SIGSEGV, "end": signal.SIGSEGV}
