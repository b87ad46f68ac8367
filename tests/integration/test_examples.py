"""The examples, run as their documentation says, against a real server."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon

ROOT = Path(__file__).resolve().parents[2]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with Daemon() as daemon:
        yield daemon.address


def test_charlm_writes_the_same_texts_for_the_same_seed(address: str) -> None:
    command = ["examples.charlm", "--address", address, "--temperature", "0", "0.7", "--max-chars", "30"]
    first, again, other = run(*command), run(*command), run(*command, "--seed", "99")
    assert first.returncode == 0, first.stderr
    texts = [line for line in first.stdout.splitlines() if line.startswith("  ")]
    assert len(texts) == 8
    assert texts == [line for line in again.stdout.splitlines() if line.startswith("  ")]
    others = [line for line in other.stdout.splitlines() if line.startswith("  ")]
    assert others[:4] == texts[:4], "T = 0 does not depend on the seed"
    assert others[4:] != texts[4:]


def test_negative_sampling_follows_its_law(address: str) -> None:
    done = run("examples.negative_sampling", "--address", address, "--draws", "300000")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("300,000 words out of 3")
    deviation = re.search(r"chi-square over all words: ([+-][\d.]+)", done.stdout)
    assert deviation is not None
    assert abs(float(deviation[1])) < 5  # seed 1, n = 300,000; close to normal


@pytest.mark.parametrize("example", ["examples.charlm", "examples.negative_sampling"])
def test_without_a_server_there_is_one_line_and_an_error(example: str) -> None:
    done = run(example, "--address", "127.0.0.1:1")
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_an_unknown_character_is_named(address: str) -> None:
    done = run("examples.charlm", "--address", address, "--opening", "snow ☃")
    assert done.returncode == 1
    assert done.stderr == "charlm: the model does not know '☃'\n"


@pytest.mark.slow
def test_the_demo_shows_everything_and_stops_its_server() -> None:
    done = run("examples.demo")
    assert done.returncode == 0, done.stdout + done.stderr
    for part in (
        "64 texts at once",
        "T = 1.5",
        "negative samples from",
        "drawn most: the",
        "mean batch, rows",
        "samplerd_queue_wait_seconds",
        "drained, and exited with 0",
    ):
        assert part in done.stdout
    replayed = re.search(r"(\d+) of these draws asked for again, each alone in its batch: (\d+)", done.stdout)
    assert replayed is not None
    assert replayed[1] == replayed[2]
    assert int(replayed[1]) > 50
