"""Every example of client/python/README.md runs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from samplerd_client import SampleOptions
from tests.support.daemon import Daemon

if TYPE_CHECKING:
    from collections.abc import Iterator

README = (Path(__file__).parents[2] / "client" / "python" / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("SAMPLERD_")}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with Daemon("--shared-memory-prefix", "logits-", env=CLEAN) as daemon:
        yield daemon.address


def run(command: list[str], address: str) -> str:
    done = subprocess.run(
        command, env=CLEAN | {"SAMPLERD_SERVER": address}, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_there_are_examples() -> None:
    assert len(BLOCKS) >= 4
    assert len(COMMANDS) >= 4


def test_every_keyword_is_listed() -> None:
    # The table, and the sampling parameters below it, up to the next heading.
    keywords = README[README.index("| parameters |") :].partition("\n#")[0]
    listed = set(re.findall(r"`([a-z]\w*)[=`]", keywords))
    assert listed == {*SampleOptions.__annotations__, "timeout_s"}


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_python(number: int, address: str) -> None:
    out = run([sys.executable, "-W", "error", "-c", BLOCKS[number].replace("127.0.0.1:50051", address)], address)
    # A comment that ends a print says what it prints, where it is a literal.
    for literal in re.findall(r"# (?:argmax: )?(\[\[1\]\]|params\.temperature|NAN)", BLOCKS[number]):
        assert literal in out


@pytest.mark.parametrize("command", COMMANDS)
def test_samplerctl(command: str, address: str) -> None:
    words = shlex.split(command)
    assert words[0] == "samplerctl"
    assert run([sys.executable, "-W", "error", "-m", "samplerd_client.samplerctl", *words[1:]], address)
