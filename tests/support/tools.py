"""Programs that some tests start. `make test` installs them; where somebody runs pytest alone they may be missing."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest


def need(name: str) -> str:
    """Give the path of a program; without it, skip the test, or fail it in CI."""
    beside = Path(sys.executable).with_name(name)
    program = str(beside) if beside.exists() else shutil.which(name)
    if program is None:
        message = f"{name} is not installed"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return program
