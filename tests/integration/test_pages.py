"""The programs and commands of the documentation run as they stand, and print what the pages say."""

from __future__ import annotations

import html
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
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
SCRIPTS = [block for block in BLOCKS if block.language == "sh"]
BESIDE_LIBRARIES = [block for block in blocks_of(LIBRARIES) if block.runs]
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("SAMPLERD_")}
MODULES = {"samplerctl": "samplerd_client.samplerctl", "samplerd": "samplerd_server"}
PROGRESS = r"^samplerctl: [\d,]+ of [\d,]+ samples in .*\n"
"""What `samplerctl distribution draw` says beside the samples."""
SHELL_WORDS = {"sort", "uniq"}
"""Programs of every system that the pages' commands are piped into."""


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon("--reflection", env=CLEAN) as daemon:
        yield daemon


def located(text: str, daemon: Daemon) -> str:
    return text.replace("127.0.0.1:50051", daemon.address).replace("127.0.0.1:9464", daemon.metrics_address)


def run(command: list[str], daemon: Daemon) -> str:
    environment = CLEAN | {"SAMPLERD_SERVER": daemon.address}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    assert re.sub(PROGRESS, "", done.stderr, flags=re.MULTILINE) == ""
    return done.stdout


@pytest.mark.parametrize("block", PROGRAMS, ids=lambda block: f"{block.page}-{block.number}")
def test_a_program_prints_what_its_page_says(block: Block, daemon: Daemon) -> None:
    out = run([sys.executable, "-W", "error", "-c", located(block.text, daemon)], daemon)
    if block.printed is not None:
        assert out == block.printed


def shell(text: str) -> list[str]:
    """Give a command that runs lines of a page as a shell does, one after the other until one fails."""
    python = shlex.quote(sys.executable)
    functions = "".join(f'{tool}() {{ {python} -W error -m {module} "$@"; }}\n' for tool, module in MODULES.items())
    functions += f"PATH=$PATH:{shlex.quote(str(Path(sys.executable).parent))}\n"
    return ["bash", "-euo", "pipefail", "-c", functions + text]


@pytest.mark.parametrize("block", SCRIPTS, ids=lambda block: f"{block.page}-{block.number}")
def test_the_commands_of_a_page_run_in_their_order(block: Block, daemon: Daemon) -> None:
    for line in block.lines:
        for command in line.split(" | "):
            tool = command.split()[0]
            if tool not in MODULES and tool not in SHELL_WORDS:
                need(tool)
    out = run(shell(located(block.text, daemon)), daemon)
    assert out
    if block.printed is not None:
        assert out == block.printed


def test_a_page_fails_with_its_first_command_that_fails(daemon: Daemon) -> None:
    with pytest.raises(AssertionError, match="no distribution named nobody"):
        run(shell("samplerctl sample --distribution nobody | sort\nsamplerctl distribution list"), daemon)


def test_commands_and_programs_are_found() -> None:
    assert len(PROGRAMS) >= 10
    assert sum(len(block.lines) for block in SCRIPTS) >= 8
    assert len(BESIDE_LIBRARIES) == 6


def test_the_picture_of_a_terminal_shows_what_the_commands_print(daemon: Daemon) -> None:
    picture = (ROOT / "docs" / "pictures" / "terminal.svg").read_text(encoding="utf-8")
    shown = [html.unescape(line) for line in re.findall(r"<text [^>]*>(.*)</text>", picture)]
    commands = [line.removeprefix("$ ") for line in shown if line.startswith("$ ")]
    assert len(commands) == 3
    printed = []
    for command in commands:
        words = [sys.executable, "-m", MODULES["samplerctl"], *shlex.split(command)[1:], "--server", daemon.address]
        wide = CLEAN | {"COLUMNS": "100"}
        done = subprocess.run(words, env=wide, capture_output=True, text=True, timeout=60, check=False)
        printed += [f"$ {command}", *(done.stdout + done.stderr).splitlines()]
    assert [timeless(line) for line in shown] == [timeless(line) for line in printed if line]


def timeless(line: str) -> str:
    """The line without what differs at each call: its times and its request id."""
    return re.sub(r"request id [\da-f]+-[\da-f]+", "request id N", re.sub(r"[\d.]+ ms", "N ms", line))


@pytest.mark.parametrize("block", BESIDE_LIBRARIES, ids=lambda block: block.text.split("\n", 1)[0] + f"-{block.number}")
def test_a_library_and_samplerd_follow_one_law(block: Block, daemon: Daemon) -> None:
    """Null: both samples are of one law; chi-squared test of two samples at alpha = 1e-6, n as the page says."""
    names: dict[str, Any] = {}
    exec(compile(located(block.text, daemon), block.page, "exec"), names)
    assert_one_law(names["theirs"], names["ours"])
