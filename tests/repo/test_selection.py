"""Which tests run: the markers gpu, peer, ranges and stock compose with any other choice."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"
SUITE = """
import pytest

def test_plain(): pass

@pytest.mark.slow
def test_slow(): pass

@pytest.mark.gpu
def test_gpu(): pass

@pytest.mark.gpu
@pytest.mark.slow
def test_slow_on_gpu(): pass

@pytest.mark.peer
def test_peer(): pass

@pytest.mark.stock
def test_stock(): pass

@pytest.mark.ranges
def test_ranges(): pass
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A small suite under the conftest of the real one."""
    shutil.copy(CONFTEST, tmp_path / "conftest.py")
    (tmp_path / "test_suite.py").write_text(SUITE)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  gpu\n  peer\n  ranges\n  slow\n  stock\n")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), {"plain", "slow"}),
        (("-m", "not slow"), {"plain"}),
        (("-m", "slow or gpu"), {"slow"}),
        (("-m", "gpu"), set()),
        (("--gpu",), {"plain", "slow", "gpu", "slow_on_gpu"}),
        (("--gpu", "-m", "not slow"), {"plain", "gpu"}),
        (("--gpu", "-m", "gpu"), {"gpu", "slow_on_gpu"}),
        (("-m", "peer"), set()),
        (("--peer", "-m", "not slow"), {"plain", "peer"}),
        (("-m", "ranges"), set()),
        (("--ranges", "-m", "not slow"), {"plain", "ranges"}),
        (("-m", "stock"), set()),
        (("--stock", "-m", "not slow"), {"plain", "stock"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_marked_tests_run_only_when_they_are_asked_for(
    suite: Path, arguments: tuple[str, ...], expected: set[str]
) -> None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *arguments]
    done = subprocess.run(command, cwd=suite, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode in {0, 5}, done.stdout + done.stderr  # 5: none was collected
    assert set(re.findall(r"^test_suite\.py::test_(\w+)", done.stdout, re.MULTILINE)) == expected
