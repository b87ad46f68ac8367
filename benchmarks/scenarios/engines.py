"""Hugging Face generate and llama.cpp's loop with samplerd beside their own sampling, V = 151,936.

An engine runs in an environment of its own, and samplerd as a process beside it on the same cores. Every round
generates with an argmax, with the engine's own sampling, and with samplerd. transformers is installed under
build/engines on first use. llama-cpp-python has to be compiled: it is measured where `LLAMA_CPP_COMMAND` was run
before, and the table says so where it was not.
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
    "transformers 5.24.0 generate, f32; the loop of llama-cpp-python 0.3.36, Q8_0, AVX2; top-k 50, top-p 0.9,"
    " repetition penalty 1.1, random weights in the shapes of Qwen3-0.6B with 28 or 4 layers; samplerd is a process on"
    " the same cores, rows in shared memory; share: of a step, what it takes longer than with an argmax"
)
SHAPE = {
    "vocab_size": V,
    "hidden": 1024,
    "feed_forward": 3072,
    "heads": 16,
    "kv_heads": 8,
    "head_size": 128,
}
"""Of llama.cpp's model, without its layers: those of Qwen3-0.6B."""
LLAMA_CPP_COMMAND = "python -m tests.peers.environments llama.cpp"
_SCRATCH = ROOT / "build" / "engines"
_TRANSFORMERS = _SCRATCH / "transformers"
_LLAMA_CPP = ROOT / "build" / "peers" / "llama.cpp"
_SECONDS = 3_600.0
_TARGET = 1.5


def run(progress: Progress, options: Options) -> Result:
    """Measure each engine and model with each batch size."""
    _install(progress)
    models = []
    missing = [] if _has_llama_cpp() else [f"llama-cpp-python is not installed, `{LLAMA_CPP_COMMAND}` compiles it"]
    for text in missing:
        progress(f"not measured: {text}")
    with SamplerServer("--shared-memory-prefix", PREFIX) as server:
        for engine in ("transformers", "llama.cpp")[: 2 - len(missing)]:
            for layers in (1,) if options.quick else LAYERS:
                progress(f"{engine}: {layers} layers, batches of {', '.join(map(str, BATCHES))}")
                answer = _measure(engine, server.port, layers, options)
                sizes = [_figures(int(batch), rounds) for batch, rounds in answer["step_s"].items()]
                models.append({"engine": engine, "layers": layers, "parameters": answer["parameters"], "sizes": sizes})
    about = {"note": NOTE, "settings": SETTINGS, "requirements": list(REQUIREMENTS)}
    return {**about, "models": models, "missing": missing}


def _has_llama_cpp() -> bool:
    """Say whether llama-cpp-python and gguf are installed where tests/peers has them."""
    return (_LLAMA_CPP / "installed").exists()


def _measure(engine: str, port: int, layers: int, options: Options) -> Result:
    """Run the worker of an engine for one model."""
    asked: Result = {
        "server": f"127.0.0.1:{port}",
        "prefix": PREFIX,
        "folders": [str(ROOT / "client" / "python"), str(ROOT / "protos" / "gen" / "python")],
        "threads": len(os.sched_getaffinity(0)),
        "batches": BATCHES,
        "rounds": 1 if options.quick else 5,
        "steps": 3 if options.quick else 12,
    }
    if engine == "transformers":
        asked |= {"vocab_size": V, "layers": layers, "settings": SETTINGS}
        return _work(_TRANSFORMERS, "generate_worker.py", asked)
    asked |= {"shape": {**SHAPE, "layers": layers}, "settings": {"temperature": 1.0, **SETTINGS}}
    asked["folders"] += [str(ROOT)]
    asked["scratch"] = str(_SCRATCH)
    return _work(_LLAMA_CPP, "llama_worker.py", asked)


def _install(progress: Progress) -> None:
    """Make the environment of transformers, unless it is there already.

    Raises:
        ServerError: an installation failed.

    """
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    wanted = [next(pin for pin in pins if pin.startswith("torch==")), *REQUIREMENTS]
    stamp = _TRANSFORMERS / "installed"
    if stamp.exists() and stamp.read_text().split() == wanted:
        return
    progress(f"installing {', '.join(wanted)} into {_TRANSFORMERS}: minutes")
    shutil.rmtree(_TRANSFORMERS, ignore_errors=True)
    python = str(Path(sysconfig.get_config_var("BINDIR")) / f"python{sysconfig.get_python_version()}")
    pip = [str(_TRANSFORMERS / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for command in ([python, "-m", "venv", str(_TRANSFORMERS)], [*pip, wanted[0]], [*pip, *wanted]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
        if done.returncode != 0:
            raise ServerError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    stamp.write_text("\n".join(wanted))


def _work(folder: Path, worker: str, asked: Result) -> Result:
    """Run a worker in the environment of a folder, and return what it printed."""
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    program = str(Path(__file__).parents[1] / "engines" / worker)
    command = [str(folder / "bin" / "python"), "-W", "ignore", program, json.dumps(asked)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_SECONDS, check=False, env=variables, cwd=folder
    )
    if done.returncode != 0:
        raise ServerError(f"{worker} failed:\n{done.stderr[-2000:]}")
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
                        f"{model['engine']}, {model['layers']} layers, batch {size['batch']}, {names[way]}",
                        f"{figures['tokens_per_s']:,.1f}",
                        f"{figures['step_ms']['p50']:,.0f}",
                        f"{figures['step_ms']['p95']:,.0f}",
                        "" if way == "argmax" else f"{100 * figures['sampling_share']:.0f} %",
                        f"{size['tokens_ratio']:.2f}" if is_ours else "",
                        f"{size['p95_ratio']:.2f}" if is_ours else "",
                    ]
                )
    rows += [[f"not measured: {text}", *[""] * (len(header) - 1)] for text in result["missing"]]
    return header, rows


def targets(result: Result) -> Iterator[Target]:
    """Hold the ratio of generate with the largest batch against the promise, for the model of full depth."""
    model = result["models"][0]
    for size in model["sizes"]:
        if size["batch"] == max(BATCHES):
            what = f"generate with samplerd over its own sampling, batch {size['batch']}, {model['layers']} layers"
            yield Target(what=what, value=size["tokens_ratio"], bound=_TARGET)


SCENARIO = Scenario(run=run, table=table, targets=targets)
