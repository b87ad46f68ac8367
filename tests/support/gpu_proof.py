"""`python -m tests.support.gpu_proof`: draws random batches by the kernels for a GPU and by those of the CPU.

Every bit is compared: ids, reasons, outputs, cumulative sums of what is drawn from, maxima and sums of plain rows, and
the positions of what filters keep; and beside every fourth batch the verdicts of drafts. It goes on where a stored run
of the same seed ended, and stores its counts after every hundred batches. With `--batch N` it draws one batch alone,
and shows what it is made of.
"""

from __future__ import annotations

import argparse
import datetime as dt
import gc
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ["TRITON_INTERPRET"] = "1"

import dataclasses

import numpy as np

from samplerd_server.batching.pack import pack
from samplerd_server.core.outputs import NO_OUTPUTS
from samplerd_server.sampling.cuda.draw import draw
from samplerd_server.sampling.cuda.interpreter import launch, make_exact
from samplerd_server.sampling.cuda.scope import is_drawn
from samplerd_server.sampling.kernels import NumbaSampler
from samplerd_server.sampling.kernels.blocks import BLOCK
from samplerd_server.sampling.rows import new_results
from tests.support.drafts import ask_sampler
from tests.support.gpu_batches import random_batch, random_draft
from tests.support.gpu_drafts import verify_interpreted
from tests.support.gpu_rows import same_bits

if TYPE_CHECKING:
    from samplerd_server.core.request import SampleRequest
    from tests.support.drafts import Said
    from tests.support.gpu_batches import RandomDraft

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "gpu_bits.json"


def check_batch(cpu: NumbaSampler, asked: list[SampleRequest]) -> Counter[str]:
    """Draw a batch by both, and hold every bit of one against the other. Returns counts of what was compared.

    Raises:
        AssertionError: something differs.

    """
    rows = pack(asked).rows
    own = is_drawn(rows)
    counts = Counter(batches=1, rows=int(own.sum()), left_to_the_cpu=int((~own).sum()))
    asked = [request for request, is_own in zip(asked, own.tolist(), strict=True) if is_own]
    if not asked:
        return counts
    batch = pack(asked)
    results = new_results(batch)
    drawn = draw(batch.rows, results, launch)
    same_bits(results, cpu.sample(pack(asked)))
    counts["answers"] = batch.samples
    counts["outputs"] = _count_outputs(results)
    for at, request in enumerate(asked):
        if results.status[at] == 0 and request.with_replacement:
            counts += _compare_sums(cpu, request, drawn, at)
    return counts


def check_drafts(cpu: NumbaSampler, drafts: list[RandomDraft]) -> Counter[str]:
    """Verify drafts together, by both, and hold the verdicts of one against the other's. Returns what was counted.

    Raises:
        AssertionError: something differs.

    """
    asked, counts = [draft.ask() for draft in drafts], Counter[str]()
    assert all(is_drawn(pack([target]).rows).all() for target, *_ in asked), "the kernels do not verify these drafts"
    for draft, own, got in zip(drafts, asked, verify_interpreted(*asked), strict=True):
        want = ask_sampler(cpu, *own)
        assert got == want, f"the verdict {got} is not {want}"
        counts += Counter(drafts=1, drafted_tokens=len(draft.ids), accepted_tokens=len(want.path))
        counts[f"drafts_{ending_of(draft, want)}"] += 1
    return counts


def ending_of(draft: RandomDraft, said: Said) -> str:
    """Name how the verification of a draft ended: at a failed row, behind a leaf, or with what a rejection left."""
    if said.failed_row >= 0:
        return "failed"
    return "corrected" if (said.path[-1] if said.path else -1) in draft.parents else "accepted_to_a_leaf"


def _count_outputs(results: Any) -> int:
    """Count the numbers of all outputs but samples, reasons and details."""
    count = 0
    for field in dataclasses.fields(results):
        values = getattr(results, field.name)
        if field.name not in {"samples", "status", "detail"} and values is not None:
            count += sum(map(len, values.values())) if isinstance(values, dict) else len(values)
    return count


def _compare_sums(cpu: NumbaSampler, request: SampleRequest, drawn: Any, at: int) -> Counter[str]:
    """Hold what a row leaves in memory against what it leaves in that of the CPU's kernels, drawn from alone."""
    own = dataclasses.replace(request, outputs=NO_OUTPUTS)
    cpu.sample(pack([own]))
    space, counts = cpu._workspaces[0], Counter[str]()
    kept, room = int(drawn.kept[at]), len(space.taken) * 64 // BLOCK
    blocks = -(-kept // BLOCK)
    if len(drawn.lists[at]):
        assert drawn.lists[at].tolist() == space.full().at[:kept].tolist(), f"row {at} keeps something else"
        counts["kept_positions"] += kept
    if drawn.inverse[at] >= 0:
        ends = space.small64[BLOCK // 2 + 2 * room :][:blocks]
        begin = int(drawn.ends_at[at])
        mine = drawn.ends[begin : begin + blocks].numpy()
        assert mine.tobytes() == ends.tobytes(), f"row {at} has other cumulative sums: {mine} is not {ends}"
        counts["cumulative_sums"] += blocks
    if request.params[0].is_plain:
        low, maxima = int(drawn.first_block[at]), space.small32[2 * BLOCK : 2 * BLOCK + blocks]
        assert drawn.maxima[low : low + blocks].numpy().tobytes() == maxima.tobytes(), f"row {at} has other maxima"
        if drawn.inverse[at] >= 0:
            sums = space.small64[BLOCK // 2 :][:blocks]
            assert drawn.sums[low : low + blocks].numpy().tobytes() == sums.tobytes(), f"row {at} has other sums"
        counts["sums"] += blocks
    return counts


def _check(cpu: NumbaSampler, seed: int, index: int) -> Counter[str]:
    """Draw one batch by both, and verify some drafts beside every fourth."""
    own = seed * 2**32 + index
    counts = check_batch(cpu, [row.ask() for row in random_batch(own)])
    return counts + check_drafts(cpu, _drafts(own)) if index % 4 == 0 else counts


def _drafts(number: int) -> list[RandomDraft]:
    """Make the drafts beside a batch of this number, one to three."""
    return [random_draft(number + at) for at in range(number // 4 % 3 + 1)]


def main() -> int:
    """Draw batches, and store what was counted. Returns the exit code: 1 if anything differed."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.gpu_proof", description=__doc__)
    parser.add_argument("--batches", type=int, default=10_000, help="how many batches all runs draw together")
    parser.add_argument("--seed", type=int, default=0, help="the number that batches are made of, with their own")
    parser.add_argument("--batch", type=int, help="draw this batch alone, and store nothing")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end after so long, at most")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where counts are stored")
    args = parser.parse_args()
    cpu = NumbaSampler(1)
    cpu.warm_up()
    make_exact()
    if args.batch is not None:
        rows = random_batch(args.seed * 2**32 + args.batch)
        print(*rows, *_drafts(args.seed * 2**32 + args.batch), sep="\n")
        print(dict(_check(cpu, args.seed, args.batch)))
        return 0
    stored = _load(args.output, args.seed)
    counts, differing = Counter(stored["counts"]), stored["batches_that_differ"]
    started = time.monotonic()
    gc.disable()  # the interpreter makes millions of small objects, which do not refer to each other
    for index in range(counts["batches"], args.batches):
        if time.monotonic() - started > args.seconds:
            break
        try:
            counts += _check(cpu, args.seed, index)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is told, and the others are drawn
            print(f"batch {index}: {str(error)[:500]}", file=sys.stderr, flush=True)
            differing.append(index)
            counts["batches"] += 1
        if (index + 1) % 100 == 0:
            gc.collect()
            _store(args.output, args.seed, counts, differing, stored["seconds"] + time.monotonic() - started)
            print(f"{index + 1} batches, {len(differing)} differ", file=sys.stderr, flush=True)
    gc.enable()
    _store(args.output, args.seed, counts, differing, stored["seconds"] + time.monotonic() - started)
    return 1 if differing else 0


def _load(path: Path, seed: int) -> dict[str, Any]:
    """Read what a run of the same seed and the same kernels stored, or begin anew."""
    if path.exists():
        stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if stored["seed"] == seed and stored["kernels"] == _kernels():
            return stored
    return {"counts": {}, "batches_that_differ": [], "seconds": 0.0}


def _kernels() -> str:
    """Name the source that is compared: git's hash of the folder of the kernels, as it is committed."""
    return _git("rev-parse", "HEAD:server/samplerd_server/sampling")


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _store(path: Path, seed: int, counts: Counter[str], differing: list[int], seconds: float) -> None:
    about = {
        "benchmark": "gpu_bits",
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "--untracked-files=no", "--", "server", "tests")),
        "command": "python -m tests.support.gpu_proof " + " ".join(sys.argv[1:]),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in ("triton", "torch", "numpy", "numba")},
        "kernels": _kernels(),
        "seed": seed,
        "seconds": round(seconds, 1),
        "counts": dict(counts),
        "batches_that_differ": differing,
    }
    path.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    np.seterr(all="ignore")
    raise SystemExit(main())
