"""The client and the server with the lowest and the highest versions that they declare, and beside other packages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from packaging.version import Version

from client.conformance.run import Servers, run_language
from tests.ranges.environments import ENDS, ROOT, floors, packages

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.ranges, pytest.mark.parametrize("end", ENDS)]

TREE = [str(ROOT / folder) for folder in ("server", "client/python", "protos/gen/python", ".")]
VERSIONS = """
import importlib.metadata, json, sys
print(json.dumps({name: importlib.metadata.version(name) for name in sys.argv[1:]}))
"""


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def use(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    """Have programs that are started import from these folders before all others."""
    assert all(folder.is_dir() for folder in folders), "nothing is installed: make test-ranges installs it"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*map(str, folders), *TREE]))


def python(*arguments: str, program: Path | str = sys.executable) -> str:
    run = subprocess.run([str(program), *arguments], cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert run.returncode == 0, f"{run.stdout[-4000:]}{run.stderr[-4000:]}"
    return run.stdout


@pytest.mark.parametrize("of", ["client", "server"])
def test_the_versions_are_those_of_this_end(monkeypatch: pytest.MonkeyPatch, end: str, of: str) -> None:
    use(monkeypatch, packages(end, of))
    lowest = floors(of)
    found = json.loads(python("-c", VERSIONS, *lowest))
    print(end, of, found)  # of the report: -rA
    for name, version in lowest.items():
        assert (Version(found[name]) == Version(version)) == (end == "lowest"), name


def test_the_wheels_client(monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    use(monkeypatch, packages(end, "client"), packages(end, "server"))  # some tests answer the client themselves
    where = python("-W", "error", "-c", "import samplerd_client.client as own; print(own.__file__)")
    assert where.startswith(str(packages(end, "client")))
    tests = ("tests/unit/client", "--numprocesses", "2", "-q", "-p", "no:cacheprovider")
    python("-m", "pytest", *tests)


def test_the_wheels_client_against_a_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stack: ExitStack, end: str
) -> None:
    use(monkeypatch)
    servers = Servers("grpcio", stack, tmp_path)
    use(monkeypatch, packages(end, "client"))
    failed = {name: own.detail for name, own in run_language("python", servers).items() if own.state != "pass"}
    assert not failed


def test_the_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stack: ExitStack, end: str) -> None:
    use(monkeypatch, packages(end, "server"))
    servers = Servers("grpcio", stack, tmp_path)
    use(monkeypatch)
    failed = {name: own.detail for name, own in run_language("python", servers).items() if own.state != "pass"}
    assert not failed


def test_the_servers_reflection_and_open_inference_protocol(monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    use(monkeypatch, packages(end, "server"))
    # tritonclient declares protobuf 6.30 and refuses it (findings/); test_beside.py has it with a newer one.
    tests = ("tests/unit/transport/oip", "-k", "not tritons_in_one_process", "-q", "-p", "no:cacheprovider")
    python("-m", "pytest", *tests)
