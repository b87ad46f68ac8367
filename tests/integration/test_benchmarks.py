"""The benchmarks run from end to end: a server, the empty handler, h2load, files."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.tools import need

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_a_quick_run_measures_and_writes(tmp_path: Path) -> None:
    need("h2load")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "served", "memory", "--quick", "--output", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "do not quote" in done.stdout

    served = json.loads((tmp_path / "served.json").read_text())
    assert [size["vocab_size"] for size in served["sizes"]] == [1_024, 32_768, 131_072]
    for size in served["sizes"]:
        assert 0 < size["ratio"] < 2
        assert size["samplerd"]["mean_batch_rows"] >= 1
        assert len(size["rounds"]) == served["plan"]["rounds"]
    memory = json.loads((tmp_path / "memory.json").read_text())
    assert memory["series"][-1][0] == memory["requests"]
    assert memory["after_bytes"] > 10 << 20
    pictures = sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".json")
    assert pictures == ["memory.png", "memory.svg", "served.png", "served.svg"]
