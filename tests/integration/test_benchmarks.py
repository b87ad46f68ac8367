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
    names = ["stream", "unix_socket", "memory"]
    command = [
        sys.executable,
        "-m",
        "benchmarks",
        *names,
        "--quick",
        "--transport",
        "grpcio",
        "--output",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert "do not quote" in done.stdout
    assert "grpcio, growth of memory over 20,000 requests" in done.stdout

    stream = json.loads((tmp_path / "stream.json").read_text())
    assert [size["vocab_size"] for size in stream["sizes"]] == [1_024, 32_768, 131_072]
    for size in stream["sizes"]:
        assert 0 < size["ratios"]["grpcio"] < 2
        assert size["measured"]["grpcio"]["mean_batch_rows"] >= 1
        assert len(size["measured"]["empty"]["rounds"]) == stream["plan"]["rounds"]
    unix = json.loads((tmp_path / "unix_socket.json").read_text())
    assert unix["sizes"][0]["measured"]["empty unix"]["rows_per_s"] > 0
    [memory] = json.loads((tmp_path / "memory.json").read_text())["servers"]
    assert memory["series"][-1][0] == memory["requests"] == 20_000
    assert memory["after_bytes"] > 10 << 20
    pictures = sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".json")
    assert pictures == [f"{name}.{kind}" for name in sorted(names) for kind in ("png", "svg")]

    shown = subprocess.run([*command, "--report"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert "grpcio, growth of memory over 20,000 requests" in shown.stdout
