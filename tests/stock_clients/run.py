"""Runs a program of a stock client in its own environment; what it prints is one JSON value."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

from tests.stock_clients.environments import ENVIRONMENTS

__all__ = ["run"]

_PROGRAM_S = 240.0


def run(environment: str, program: str, *arguments: str) -> Any:
    """Run one of `programs/`, and give what it printed; a program that fails fails the test with what it said."""
    own = ENVIRONMENTS[environment]
    assert (own.folder / "installed").exists(), f"{environment} is not installed: make test-stock-clients installs it"
    # Nothing of this process's environment: a client must not find samplerd's stubs.
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        own.command(program, *arguments),
        capture_output=True,
        text=True,
        timeout=_PROGRAM_S,
        check=False,
        env=variables,
        cwd=own.folder,
    )
    assert done.returncode == 0, f"{program} ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-6000:]}"
    return json.loads(done.stdout)
