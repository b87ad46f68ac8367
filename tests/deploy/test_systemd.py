"""The unit of systemd: systemd itself reads it, and its times fit the settings beside it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.tools import need

pytestmark = pytest.mark.deploy

FOLDER = Path(__file__).parents[2] / "deploy" / "systemd"
UNIT = (FOLDER / "samplerd.service").read_text(encoding="utf-8")
LEAST_S = 15.0
"""What the workers need beyond the drain to end (process/workers/pool.py)."""


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that is there on this machine, and with what CUDA adds."""
    path = tmp_path / "samplerd.service"
    path.write_text(UNIT.replace("/opt/samplerd/bin/samplerd", sys.executable), encoding="utf-8")
    return path


def analyze(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [need("systemd-analyze"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def setting(name: str) -> str:
    [value] = re.findall(rf"^{name}=(.*)$", UNIT, re.M)
    return value


def test_systemd_knows_every_line(unit: Path) -> None:
    for checked in (unit, with_cuda(unit)):
        done = analyze("verify", "--man=no", checked)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")


def with_cuda(unit: Path) -> Path:
    both = unit.with_name("samplerd-cuda.service")
    both.write_text(unit.read_text() + (FOLDER / "cuda.conf").read_text(), encoding="utf-8")
    return both


def test_a_line_that_systemd_does_not_know_is_found(unit: Path) -> None:
    unit.write_text(unit.read_text().replace("ProtectClock", "ProtectClok"), encoding="utf-8")
    assert "ProtectClok" in analyze("verify", "--man=no", unit).stderr


def test_what_is_left_to_it_is_little(unit: Path) -> None:
    """The exposure, from 0 to 10, as `systemd-analyze security` counts it; a unit without hardening has 9.6."""
    done = analyze("security", "--offline=true", "--threshold=15", unit)
    assert done.returncode == 0, done.stdout


def test_its_times_fit_the_settings() -> None:
    given = (FOLDER / "samplerd.toml").read_text(encoding="utf-8")
    transport = tomllib.loads(given)["transport"]
    drain_s = sum(float(transport[name].removesuffix("s")) for name in ("drain_delay", "drain_grace"))
    assert float(setting("TimeoutStopSec")) >= drain_s + LEAST_S
    command = [sys.executable, "-m", "samplerd_server", "--check-config", "--config", str(FOLDER / "samplerd.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    stall_limit_s = float(tomllib.loads(done.stdout)["engine"]["stall_limit"].removesuffix("s"))
    assert float(setting("WatchdogSec")) > stall_limit_s
    assert setting("Type") == "notify"
