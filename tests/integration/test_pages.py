"""The programs and commands of the documentation run as they stand, and print what the pages say."""

from __future__ import annotations

import html
import os
import re
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.daemon import Daemon
from tests.support.documents import PAGES, ROOT, Block, blocks_of
from tests.support.same_law import assert_one_law
from tests.support.tools import need

if TYPE_CHECKING:
    from collections.abc import Iterator

LIBRARIES = "docs/from_numpy_torch_jax.md"
BLOCKS = [block for page in PAGES for block in blocks_of(page) if block.runs and page != LIBRARIES]
PROGRAMS = [block for block in BLOCKS if block.language == "python"]
COMMANDS = [(block, line) for block in BLOCKS if block.language == "sh" for line in block.lines]
BESIDE_LIBRARIES = [block for block in blocks_of(LIBRARIES) if block.runs]
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("SAMPLERD_")}
MODULES = {"samplerctl": "samplerd_client.samplerctl", "samplerd": "samplerd_server"}


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon("--reflection", env=CLEAN) as daemon:
        yield daemon


def located(text: str, daemon: Daemon) -> str:
    return text.replace("127.0.0.1:50051", daemon.address).replace("127.0.0.1:9464", daemon.metrics_address)


def run(command: list[str], daemon: Daemon) -> str:
    environment = CLEAN | {"SAMPLERD_SERVER": daemon.address}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("block", PROGRAMS, ids=lambda block: f"{block.page}-{block.number}")
def test_a_program_prints_what_its_page_says(block: Block, daemon: Daemon) -> None:
    out = run([sys.executable, "-W", "error", "-c", located(block.text, daemon)], daemon)
    if block.printed is not None:
        assert out == block.printed


@pytest.mark.parametrize("line", [line for _, line in COMMANDS])
def test_a_command_runs(line: str, daemon: Daemon) -> None:
    tool, *arguments = shlex.split(located(line, daemon))
    if tool in MODULES:
        out = run([sys.executable, "-W", "error", "-m", MODULES[tool], *arguments], daemon)
    else:
        out = run([need(tool), *arguments], daemon)
    assert out


def test_commands_and_programs_are_found() -> None:
    assert len(PROGRAMS) >= 10
    assert len(COMMANDS) >= 8
    assert len(BESIDE_LIBRARIES) == 6


def test_the_picture_of_a_terminal_shows_what_the_commands_print(daemon: Daemon) -> None:
    picture = (ROOT / "docs" / "pictures" / "terminal.svg").read_text(encoding="utf-8")
    shown = [html.unescape(line) for line in re.findall(r"<text [^>]*>(.*)</text>", picture)]
    commands = [line.removeprefix("$ ") for line in shown if line.startswith("$ ")]
    assert len(commands) == 3
    printed = []
    for command in commands:
        words = [sys.executable, "-m", MODULES["samplerctl"], *shlex.split(command)[1:], "--server", daemon.address]
        done = subprocess.run(words, env=CLEAN, capture_output=True, text=True, timeout=60, check=False)
        printed += [f"$ {command}", *(done.stdout + done.stderr).splitlines()]
    assert [timeless(line) for line in shown] == [timeless(line) for line in printed if line]


def timeless(line: str) -> str:
    return re.sub(r"[\d.]+ ms", "N ms", line)


@pytest.mark.parametrize("block", BESIDE_LIBRARIES, ids=lambda block: block.text.split("\n", 1)[0] + f"-{block.number}")
def test_a_library_and_samplerd_follow_one_law(block: Block, daemon: Daemon) -> None:
    """Null: both samples are of one law; chi-squared test of two samples at alpha = 1e-6, n as the page says."""
    names: dict[str, Any] = {}
    exec(compile(located(block.text, daemon), block.page, "exec"), names)
    assert_one_law(names["theirs"], names["ours"])
