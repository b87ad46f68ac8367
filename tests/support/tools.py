"""Programs that some tests start. `make test` installs them; where somebody runs pytest alone they may be missing."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from benchmarks import perf_analyzer


def need(name: str) -> str:
    """Give the path of a program; without it, skip the test, or fail it in CI."""
    beside = Path(sys.executable).with_name(name)
    program = str(beside) if beside.exists() else shutil.which(name)
    if program is None:
        _missing(name)
    return str(program)


def need_http() -> None:
    """Skip the test, or fail it in CI, where the packages of the extra http are not installed."""
    if importlib.util.find_spec("uvicorn") is None:
        _missing("uvicorn")


def need_perf_analyzer() -> None:
    """Skip the test, or fail it in CI, where perf_analyzer is not there: `benchmarks.perf_analyzer` starts it."""
    if not (perf_analyzer.FOLDER / "installed").exists():
        _missing("perf_analyzer")


def _missing(name: str) -> NoReturn:
    cannot(f"{name} is not installed")


def cannot(message: str) -> NoReturn:
    """Skip the test, which this machine cannot run; fail it in CI, where nothing may hide a gap."""
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
