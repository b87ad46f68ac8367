"""perf_analyzer, the load generator of Triton's own makers: installed under build/perf_analyzer, and run closed loop.

PyPI's wheel holds the real program for a newer C library than Debian 12's, so it runs with the loader and the libraries
of Debian 13's packages, which are unpacked beside it.
"""

from __future__ import annotations

import base64
import csv
import json
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.load import LoadError
from benchmarks.report import ROOT

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["FOLDER", "VERSION", "Analysis", "analyze", "install", "write_inputs"]

VERSION = "2.60.0"
FOLDER = ROOT / "build" / "perf_analyzer"
_WHEEL = ("--platform", "manylinux_2_38_x86_64", "--only-binary=:all:", "--no-deps")
_LIBRARIES = ("libc6", "libgcc-s1", "libssl3t64", "libstdc++6", "libzstd1", "zlib1g")
_INSTALL_S = 600.0
_STABLE_PERCENT = 999
"""Per cent by which windows may differ: on a shared machine the program would otherwise never be content."""
_MEMORY = 10 << 30
"""Bytes of address space that the program may take. It needs 2.5 GB at most; about one run in a hundred does not end,
and grew to 23 GB before the kernel killed it, so that whatever runs beside it was at risk too."""
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """What one run of it said."""

    inferences_per_s: float
    p50_ms: float
    p99_ms: float
    lost_runs: int
    """Runs before it that ended by a signal, out of memory of their own."""


def install(folder: Path = FOLDER) -> None:
    """Make the program and its libraries, unless they are there already.

    Raises:
        LoadError: pip or Debian's packages could not be had.

    """
    stamp = folder / "installed"
    if stamp.exists() and stamp.read_text() == VERSION:
        stamp.touch()
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", *_WHEEL]
    _run([*pip, "--dest", str(folder), f"perf-analyzer=={VERSION}"])
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        program = Path(archive.extract("perf_analyzer/bin/perf_analyzer", folder))
    program.chmod(0o755)
    wheel.unlink()
    _run([str(ROOT / "scripts" / "unpack-debian"), "trixie", str(folder / "root"), *_LIBRARIES])
    stamp.write_text(VERSION)


def write_inputs(path: Path, row: NDArray[np.float32], temperature: float) -> None:
    """Write the data of every call: one row of logits and its temperature; the program's own data makes NaN."""
    logits = {"b64": base64.b64encode(row.astype("<f4").tobytes()).decode(), "shape": [len(row)]}
    inputs = {"logits": logits, "temperature": {"content": [temperature], "shape": [1]}}
    path.write_text(json.dumps({"data": [inputs]}))


def analyze(port: int, inputs: Path, *, in_flight: int, window_ms: int, timeout_s: float = 300.0) -> Analysis:
    """Keep this many calls of the model `sampler` in flight, for three windows or more.

    Raises:
        LoadError: the program failed, or a call did: it stops at the first; or it ran out of memory time after time.

    """
    report = inputs.with_suffix(".csv")
    report.unlink(missing_ok=True)
    root = FOLDER / "root" / "usr"
    loader = [str(root / "lib64" / "ld-linux-x86-64.so.2"), "--library-path", str(root / "lib" / "x86_64-linux-gnu")]
    command = ["prlimit", f"--as={_MEMORY}", *loader]
    command += [str(FOLDER / "perf_analyzer" / "bin" / "perf_analyzer"), "-i", "grpc", "-m", "sampler"]
    command += ["-u", f"127.0.0.1:{port}", "--input-data", str(inputs), "-f", str(report), "--async"]
    command += ["--concurrency-range", str(in_flight), "-p", str(window_ms), "-s", str(_STABLE_PERCENT)]
    for lost_runs in range(_ATTEMPTS):
        try:
            _run(command, timeout_s)
            break
        except _KilledError:
            if lost_runs + 1 == _ATTEMPTS:
                raise
    with report.open(newline="") as file:
        (line,) = csv.DictReader(file)
    return Analysis(
        inferences_per_s=float(line["Inferences/Second"]),
        p50_ms=float(line["p50 latency"]) / 1e3,
        p99_ms=float(line["p99 latency"]) / 1e3,
        lost_runs=lost_runs,
    )


class _KilledError(LoadError):
    """A program was ended by a signal."""


def _run(command: list[str], timeout_s: float = _INSTALL_S) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise LoadError(f"{Path(command[-1]).name}: {command[0]} took more than {timeout_s:g} s") from error
    if done.returncode != 0:
        kind = _KilledError if done.returncode < 0 else LoadError
        said = f"{done.stdout[-1000:]}{done.stderr[-1000:]}"
        raise kind(f"{' '.join(command)} failed with status {done.returncode}:\n{said}")


if __name__ == "__main__":
    install()
