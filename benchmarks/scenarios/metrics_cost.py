"""What counting costs: the share of the event loop's time that is spent in metrics, seen by py-spy under full load.

The server always counts, so there is no run without metrics to compare with; a sampling profiler shows the share
instead. The server is scraped once a second meanwhile, 15 times as often as is usual; that share is reported too.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.check import checked_reply
from benchmarks.load import LoadError, frame, run_load, sample_request
from benchmarks.scenario import Options, Result, Scenario, Table, Target
from benchmarks.scrape import read_metrics
from benchmarks.servers import SamplerServer

if TYPE_CHECKING:
    from benchmarks.report import Progress

__all__ = ["SCENARIO"]

VOCAB_SIZE = 1_024
SECONDS = 15
SAMPLES_PER_S = 250
SCRAPE_EVERY_S = 1.0
ALLOWED_SHARE = 0.03
NOTE = f"stacks sampled {SAMPLES_PER_S} times a second under full load at V = {VOCAB_SIZE:,}, scraped once a second"

_THREAD = re.compile(r"thread \([^)]*\): (.+)")
_COUNTING = re.compile(r"samplerd_server/metrics/|prometheus_client/")


def run(progress: Progress, options: Options) -> Result:
    """Profile a loaded server."""
    seconds = 3 if options.quick else SECONDS
    progress(f"profiling a loaded server for {seconds} s")
    with SamplerServer() as server, tempfile.TemporaryDirectory(prefix="samplerd-bench-") as folder:
        body = Path(folder) / "body"
        request = sample_request(VOCAB_SIZE)
        body.write_bytes(frame(request.SerializeToString()))
        checked_reply(server.port, request)
        rate = run_load(server.port, body, requests=2_000).rate
        done = threading.Event()
        helpers = [
            threading.Thread(target=_keep_loading, args=(server.port, body, int(rate), done)),
            threading.Thread(target=_keep_scraping, args=(server.metrics_url, done)),
        ]
        for helper in helpers:
            helper.start()
        try:
            stacks = _record(server.pid, Path(folder) / "stacks", seconds)
        finally:
            done.set()
            for helper in helpers:
                helper.join()
    samples, counting = parse_stacks(stacks)
    everything = sum(samples.values())
    if not samples["MainThread"]:
        raise LoadError(f"py-spy saw no event loop among {dict(samples)}")
    return {
        "note": NOTE,
        "samples": everything,
        "event_loop_samples": samples["MainThread"],
        "event_loop_share": counting["MainThread"] / samples["MainThread"],
        "other_threads_share": (sum(counting.values()) - counting["MainThread"]) / everything,
        "is_cheap": counting["MainThread"] / samples["MainThread"] < ALLOWED_SHARE,
    }


def parse_stacks(text: str) -> tuple[Counter[str], Counter[str]]:
    """Read py-spy's raw stacks: (samples by thread, those of them with a frame that counts or exports)."""
    samples: Counter[str] = Counter()
    counting: Counter[str] = Counter()
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        named = _THREAD.match(stack.split(";", 1)[0])
        thread = named[1] if named else "MainThread"
        samples[thread] += int(count)
        if _COUNTING.search(stack):
            counting[thread] += int(count)
    return samples, counting


def _record(pid: int, output: Path, seconds: int) -> str:
    beside = Path(sys.executable).with_name("py-spy")
    program = str(beside) if beside.exists() else shutil.which("py-spy")
    if program is None:
        raise LoadError("py-spy is missing: install the extra samplerd[bench]")
    command = [program, "record", f"--pid={pid}", f"--duration={seconds}", f"--rate={SAMPLES_PER_S}"]
    command += ["--format=raw", "--threads", "--full-filenames", f"--output={output}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
    if done.returncode != 0:
        raise LoadError(f"py-spy exited with {done.returncode} (does it need ptrace rights?): {done.stderr.strip()}")
    return output.read_text()


def _keep_loading(port: int, body: Path, requests: int, done: threading.Event) -> None:
    while not done.is_set():
        run_load(port, body, requests=requests)


def _keep_scraping(url: str, done: threading.Event) -> None:
    while not done.wait(SCRAPE_EVERY_S):
        read_metrics(url)


def table(result: Result) -> Table:
    """Lay the figures out: header and rows."""
    header = ["", "share", "under 3 %"]
    return header, [
        [
            "counting, of the event loop",
            f"{100 * result['event_loop_share']:.2f} %",
            "yes" if result["is_cheap"] else "NO",
        ],
        ["scraping once a second, of all threads", f"{100 * result['other_threads_share']:.2f} %", ""],
    ]


def targets(result: Result) -> list[Target]:
    """Hold the event loop's share against its bound."""
    what, share = "counting, share of the event loop", 100 * result["event_loop_share"]
    return [Target(what=what, value=share, bound=100 * ALLOWED_SHARE, at_most=True, unit="%")]


SCENARIO = Scenario(run=run, table=table, targets=targets)
