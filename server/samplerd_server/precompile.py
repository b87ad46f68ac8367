"""Compile all kernels into the cache on disk: a step of installations, of image builds, and of a first start.

Two processes compile at once, in two steps: first one compiles the parts that kernels share
(`sampling/kernels/shared_parts.py`) and the other what needs none of them, then each compiles kernels that call these
parts, which it finds in the cache. A server that finds kernels missing runs this as a child process
(`engine/compile_child.py`).
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import shutil
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context, parent_process

import numpy as np

try:
    from samplerd_server.sampling.cdf_index.builder import CdfIndexBuilder
    from samplerd_server.sampling.kernels import NumbaSampler
    from samplerd_server.sampling.kernels.linking import save_linked
    from samplerd_server.sampling.kernels.partition import share_out
    from samplerd_server.sampling.kernels.progress import tell_progress
    from samplerd_server.sampling.kernels.warm_up import batches
    from samplerd_server.sampling.resumed import ResumedDraw
    from samplerd_server.transport.codec.compiled import compiled_scan, compiled_varints
except ModuleNotFoundError as error:  # the base install is the client alone
    raise SystemExit(f"samplerd_server.precompile: it needs pip install 'samplerd[server]': {error}") from None

_GARBAGE_THRESHOLD = 100_000
"""Objects between collections in a process that compiles: it makes millions, and keeps most of them."""


_starting = threading.Lock()
"""Held while the two processes are started: to end meanwhile would leave one of them, or a semaphore, behind."""


def main() -> None:
    """Compile what is not in the cache yet."""
    parser = argparse.ArgumentParser(
        prog="samplerd_server.precompile", description="Compile all kernels into the cache."
    )
    parser.add_argument(
        "--processes", type=int, default=min(2, len(os.sched_getaffinity(0))), help="1 or 2 (default: 2 with 2 cores)"
    )
    parser.add_argument(
        "--cuda", action="store_true", help="compile the kernels for GPUs too, for every card; no card is needed"
    )
    # Of a server, which holds the other end of the pipe.
    parser.add_argument("--until-input-ends", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--temporary", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    ending = threading.Event()
    if arguments.until_input_ends:
        threading.Thread(target=_end_with_input, args=(ending, arguments.temporary), daemon=True).start()
    began = time.monotonic()
    _set_up()
    if arguments.processes > 1:
        try:
            _compile_by_two()
        except BrokenProcessPool:
            if ending.is_set():
                threading.Event().wait()  # for the end of this process
            raise
    # Loads what the two made, and compiles whatever they left.
    sampler = NumbaSampler(1)
    sampler.warm_up()
    sampler.close()
    CdfIndexBuilder().warm_up()
    compiled_scan()
    compiled_varints()
    save_linked()
    if arguments.cuda:
        _compile_for_gpus()
    logging.getLogger("samplerd.kernels").info("all kernels are compiled, after %.1f s", time.monotonic() - began)


def _compile_by_two() -> None:
    with _starting:
        # Spawned, since a fork may not take threads along.
        pool = ProcessPoolExecutor(2, get_context("spawn"), _set_up_half)
        halves = [pool.submit(own) for own in STEPS[0]]
    with pool:
        for half in halves:
            half.result()
        for step in STEPS[1:]:
            for half in [pool.submit(own) for own in step]:  # both processes run
                half.result()


def _compile_for_gpus() -> None:
    try:
        from samplerd_server.sampling.cuda.write_archive import write_archive  # noqa: PLC0415  # triton is optional
    except ModuleNotFoundError as error:
        raise SystemExit(f"samplerd_server.precompile: --cuda needs pip install 'samplerd[cuda]': {error}") from None
    path = write_archive()
    logging.getLogger("samplerd.kernels").info("kernels for GPUs are in %s", path)


class _Timed(logging.Formatter):
    """Adds the processor time of this process since the line before."""

    def __init__(self) -> None:
        super().__init__("%(message)s")
        self._before = 0.0

    def format(self, record: logging.LogRecord) -> str:
        now = time.process_time()
        taken, self._before = now - self._before, now
        return f"{super().format(record)} ({taken:.1f} s of processor time)"


def _set_up() -> None:
    gc.set_threshold(_GARBAGE_THRESHOLD, 50, 50)
    handler = logging.StreamHandler()
    handler.setFormatter(_Timed())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("numba").setLevel(logging.WARNING)
    tell_progress()


def _set_up_half() -> None:
    _set_up()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None, "this process was not started by another. This is a bug."
    parent.join()
    os._exit(1)


def _end_with_input(ending: threading.Event, temporary: str) -> None:
    """End this process and those it has started once the other end of standard input is closed.

    Args:
        ending: set before the others are ended.
        temporary: a folder to be removed; empty = none.

    """
    # Not through sys.stdin, whose lock would abort this process at its normal end.
    while os.read(0, 1):
        pass
    _starting.acquire()  # for good
    ending.set()
    others = active_children()
    for other in others:
        other.kill()
    for other in others:
        other.join()
    if temporary:
        shutil.rmtree(temporary, ignore_errors=True)
    os._exit(1)  # the resource tracker of multiprocessing then removes the semaphores


def _compile_index() -> None:
    """Compile CDF indexes, and for them all that takes a row through the filters."""
    CdfIndexBuilder().warm_up()


def _compile_plain() -> None:
    """Compile what needs no filters."""
    sampler = NumbaSampler(1)
    *plain, full = batches()
    for batch in plain:
        sampler.sample(batch)
    share_out(full.rows, np.zeros(2, np.int64))
    compiled_scan()
    compiled_varints()


def _compile_full() -> None:
    sampler = NumbaSampler(1)
    full = batches()[-1]
    sampler.sample(full)
    draw = ResumedDraw(full)
    while sampler.resume(draw) is None:
        draw.draws = 1


def _compile_verification() -> None:
    NumbaSampler(1).verify(batches()[-1], np.empty(0, np.int32), np.empty(0, np.int32), None)


STEPS = ((_compile_index, _compile_plain), (_compile_full, _compile_verification))
"""What is compiled at a time, by a process each. What a step needs of the one before is in the cache by then."""


if __name__ == "__main__":
    main()
