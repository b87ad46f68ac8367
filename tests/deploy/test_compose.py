"""The file of Compose: it follows the specification, and what it mounts and sets is there and fits the server."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.kubernetes import CHECKERS, PROGRAMS, ROOT
from tests.support.dockerfile import stages

pytestmark = pytest.mark.deploy

FILE = ROOT / "deploy" / "compose" / "compose.yaml"
LEAST_S = 15.0
"""What a server needs beyond the drain to end."""


def read(file: Path) -> subprocess.CompletedProcess[str]:
    command = [str(CHECKERS / "bin" / "python"), str(PROGRAMS / "compose.py"), str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    done = read(FILE)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout)["services"])


def test_a_key_that_compose_does_not_know_is_found(tmp_path: Path) -> None:
    changed = tmp_path / "compose.yaml"
    changed.write_text(FILE.read_text().replace("read_only: true\n    cap", "read_onyl: true\n    cap"))
    assert "read_onyl" in read(changed).stderr


def test_what_is_mounted_is_there(services: dict[str, Any]) -> None:
    mounts = [own for service in services.values() for own in service["volumes"] if isinstance(own, dict)]
    sources = [own["source"] for own in mounts if own["type"] == "bind"]
    assert sources
    assert [source for source in sources if not (FILE.parent / source).exists()] == []


def test_the_image_is_a_target_of_the_dockerfile(services: dict[str, Any]) -> None:
    build = services["samplerd"]["build"]
    assert (FILE.parent / build["context"]).resolve() == ROOT
    assert build["target"] in stages()


def test_only_this_host_can_connect(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service["ports"]]
    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_grace_of_stopping_covers_the_drain(services: dict[str, Any]) -> None:
    given = services["samplerd"]["command"]
    delay_s = float(given[given.index("--drain-delay") + 1].removesuffix("s"))
    default_grace_s = 10.0
    assert float(services["samplerd"]["stop_grace_period"].removesuffix("s")) >= delay_s + default_grace_s + LEAST_S
