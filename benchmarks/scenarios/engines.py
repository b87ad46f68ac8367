"""Hugging Face generate with samplerd beside its own sampling, V = 151,936.

The engine runs in an environment of its own under build/engines, made on first use, and samplerd as a process beside it
on the same cores. Every round generates with an argmax, with the engine's own sampling, and with samplerd.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.report import ROOT
from benchmarks.scenario import Options, Result, Scenario, Table, Target
from benchmarks.servers import SamplerServer, ServerError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.report import Progress

__all__ = ["SCENARIO"]

V = 151_936
BATCHES = (1, 8, 32)
LAYERS = (28, 4)
"""Of the model: those of Qwen3-0.6B, whose shapes it has, and fewer, as if a faster machine ran the model."""
SETTINGS = {"top_k": 50, "top_p": 0.9, "repetition_penalty": 1.1}
REQUIREMENTS = (
    *("transformers==5.24.0", "numpy==2.4.6"),
    *("googleapis-common-protos==1.76.0", "grpcio==1.85.1", "protobuf==7.36.2"),
)
PREFIX = "samplerd-engines-"
NOTE = (
    "transformers 5.24.0 generate, top-k 50, top-p 0.9, repetition penalty 1.1, f32, random weights in the shapes of"
    " Qwen3-0.6B with 28 or 4 layers; samplerd is a process on the same cores, rows in shared memory; share: of a step,"
    " what it takes longer than with an argmax"
)
_WORKER = Path(__file__).parents[1] / "engines" / "generate_worker.py"
_FOLDER = ROOT / "build" / "engines" / "transformers"
_SECONDS = 3_600.0
_TARGET = 1.5


def run(progress: Progress, options: Options) -> Result:
    """Measure each model with each batch size."""
    _install(progress)
    models = []
    with SamplerServer("--shared-memory-prefix", PREFIX) as server:
        for layers in (1,) if options.quick else LAYERS:
            progress(f"{layers} layers, batches of {', '.join(map(str, BATCHES))}")
            asked = {
                "server": f"127.0.0.1:{server.port}",
                "prefix": PREFIX,
                "folders": [str(ROOT / "client" / "python"), str(ROOT / "protos" / "gen" / "python")],
                "threads": len(os.sched_getaffinity(0)),
                "vocab_size": V,
                "layers": layers,
                "batches": BATCHES,
                "settings": SETTINGS,
                "rounds": 1 if options.quick else 5,
                "steps": 3 if options.quick else 12,
            }
            answer = _work(asked)
            sizes = [_figures(int(batch), rounds) for batch, rounds in answer["step_s"].items()]
            models.append({"layers": layers, "parameters": answer["parameters"], "sizes": sizes})
    return {"note": NOTE, "settings": SETTINGS, "requirements": list(REQUIREMENTS), "models": models}


def _install(progress: Progress) -> None:
    """Make the environment, unless it is there already.

    Raises:
        ServerError: an installation failed.

    """
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    wanted = [next(pin for pin in pins if pin.startswith("torch==")), *REQUIREMENTS]
    stamp = _FOLDER / "installed"
    if stamp.exists() and stamp.read_text().split() == wanted:
        return
    progress(f"installing {', '.join(wanted)} into {_FOLDER}: minutes")
    shutil.rmtree(_FOLDER, ignore_errors=True)
    python = str(Path(sysconfig.get_config_var("BINDIR")) / f"python{sysconfig.get_python_version()}")
    pip = [str(_FOLDER / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for command in ([python, "-m", "venv", str(_FOLDER)], [*pip, wanted[0]], [*pip, *wanted]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
        if done.returncode != 0:
            raise ServerError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    stamp.write_text("\n".join(wanted))


def _work(asked: dict[str, object]) -> Result:
    """Run the worker in its environment, and return what it printed."""
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [str(_FOLDER / "bin" / "python"), "-W", "ignore", str(_WORKER), json.dumps(asked)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_SECONDS, check=False, env=variables, cwd=_FOLDER
    )
    if done.returncode != 0:
        raise ServerError(f"{_WORKER.name} failed:\n{done.stderr[-2000:]}")
    answer: Result = json.loads(done.stdout)
    return answer


def _figures(batch: int, rounds: dict[str, list[list[float]]]) -> Result:
    """Make the figures of one batch size: a ratio is taken within each round, then its median."""
    median_s = {name: [statistics.median(steps) for steps in every] for name, every in rounds.items()}
    ways: dict[str, Result] = {}
    for name, every in rounds.items():
        steps = [step for steps in every for step in steps]
        over = [1 - base / own for own, base in zip(median_s[name], median_s["argmax"], strict=True)]
        ways[name] = {
            "tokens_per_s": batch * len(steps) / sum(steps),
            "step_ms": {f"p{rank}": 1e3 * float(np.percentile(steps, rank)) for rank in (50, 95)},
            "sampling_share": statistics.median(over),
        }
    sums = {name: [sum(steps) for steps in every] for name, every in rounds.items()}
    faster = statistics.median(own / ours for own, ours in zip(sums["own"], sums["samplerd"], strict=True))
    p95 = ways["samplerd"]["step_ms"]["p95"] / ways["own"]["step_ms"]["p95"]
    return {"batch": batch, "ways": ways, "tokens_ratio": faster, "p95_ratio": p95, "step_s": rounds}


def table(result: Result) -> Table:
    """Lay the figures out: header and rows."""
    header = ["", "tokens/s", "p50 ms", "p95 ms", "sampling's share", "tokens/s, ratio", "p95, ratio"]
    rows = []
    names = {"argmax": "argmax", "own": "own sampling", "samplerd": "samplerd"}
    for model in result["models"]:
        for size in model["sizes"]:
            for way, figures in size["ways"].items():
                is_ours = way == "samplerd"
                rows.append(
                    [
                        f"{model['layers']} layers, batch {size['batch']}, {names[way]}",
                        f"{figures['tokens_per_s']:,.1f}",
                        f"{figures['step_ms']['p50']:,.0f}",
                        f"{figures['step_ms']['p95']:,.0f}",
                        "" if way == "argmax" else f"{100 * figures['sampling_share']:.0f} %",
                        f"{size['tokens_ratio']:.2f}" if is_ours else "",
                        f"{size['p95_ratio']:.2f}" if is_ours else "",
                    ]
                )
    return header, rows


def targets(result: Result) -> Iterator[Target]:
    """Hold the ratio with the largest batch against the promise, for the model of full depth."""
    model = result["models"][0]
    for size in model["sizes"]:
        if size["batch"] == max(BATCHES):
            what = f"generate with samplerd over its own sampling, batch {size['batch']}, {model['layers']} layers"
            yield Target(what=what, value=size["tokens_ratio"], bound=_TARGET)


SCENARIO = Scenario(run=run, table=table, targets=targets)
