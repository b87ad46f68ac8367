"""Compile all kernels into the cache on disk: a step of installations, of image builds, and of a first start.

Two processes compile at once, each what shares most of its parts: drawing, and all else. What both need is worked out
twice, which costs less than waiting for it. A server that finds kernels missing runs this as a child process
(`engine/compile_child.py`).
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

try:
    from samplerd_server.sampling.cdf_index.builder import CdfIndexBuilder
    from samplerd_server.sampling.kernels import NumbaSampler
    from samplerd_server.sampling.kernels.warm_up import batches
    from samplerd_server.transport.codec.compiled import compiled_scan, compiled_varints
except ModuleNotFoundError as error:  # the base install is the client alone
    raise SystemExit(f"samplerd_server.precompile: it needs pip install 'samplerd[server]': {error}") from None

_GARBAGE_THRESHOLD = 100_000
"""Objects between collections in a process that compiles: it makes millions, and keeps most of them."""


def main() -> None:
    """Compile what is not in the cache yet."""
    parser = argparse.ArgumentParser(
        prog="samplerd_server.precompile", description="Compile all kernels into the cache."
    )
    parser.add_argument(
        "--processes", type=int, default=min(2, len(os.sched_getaffinity(0))), help="1 or 2 (default: 2 with 2 cores)"
    )
    # Of a server, which holds the other end of the pipe.
    parser.add_argument("--until-input-ends", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.until_input_ends:
        threading.Thread(target=_end_with_input, daemon=True).start()
    began = time.monotonic()
    _set_up()
    if arguments.processes > 1:
        # Spawned, since a fork may not take threads along.
        with ProcessPoolExecutor(2, get_context("spawn"), _set_up) as pool:
            for half in [pool.submit(_compile_drawing), pool.submit(_compile_the_rest)]:
                half.result()
    # Loads what the two made, and compiles whatever they left.
    sampler = NumbaSampler(1)
    sampler.warm_up()
    sampler.close()
    CdfIndexBuilder().warm_up()
    compiled_scan()
    compiled_varints()
    logging.getLogger("samplerd.kernels").info("all kernels are compiled, after %.1f s", time.monotonic() - began)


def _set_up() -> None:
    gc.set_threshold(_GARBAGE_THRESHOLD, 50, 50)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("numba").setLevel(logging.WARNING)


def _end_with_input() -> None:
    """Kill this process and those it has started once the other end of standard input is closed."""
    # Not through sys.stdin, whose lock would abort this process at its normal end.
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)


def _compile_drawing() -> None:
    sampler = NumbaSampler(1)
    for batch in batches():
        sampler.sample(batch)


def _compile_the_rest() -> None:
    NumbaSampler(1).verify(batches()[0], np.empty(0, np.int32), np.empty(0, np.int32), None)
    CdfIndexBuilder().warm_up()
    compiled_scan()
    compiled_varints()


if __name__ == "__main__":
    main()
