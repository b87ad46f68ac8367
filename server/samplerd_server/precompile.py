"""Compile all kernels into the cache on disk: a step of installations and of image builds.

Two processes compile at once, each what shares most of its parts: drawing, and all else. What both need is worked out
twice, which costs less than waiting for it. A server that finds nothing in the cache compiles by itself, in one.
"""

from __future__ import annotations

import gc
import logging
import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

from samplerd_server.sampling.cdf_index.builder import CdfIndexBuilder
from samplerd_server.sampling.kernels import NumbaSampler
from samplerd_server.sampling.kernels.warm_up import batches
from samplerd_server.transport.codec.compiled_scan import compiled_scan

_GARBAGE_THRESHOLD = 100_000
"""Objects between collections in a process that compiles: it makes millions, and keeps most of them."""


def main() -> None:
    """Compile what is not in the cache yet."""
    began = time.monotonic()
    if len(os.sched_getaffinity(0)) > 1:
        # Spawned, since a fork may not take threads along.
        with ProcessPoolExecutor(2, get_context("spawn"), _collect_less) as pool:
            for half in [pool.submit(_compile_drawing), pool.submit(_compile_the_rest)]:
                half.result()
    # Loads what the two made, and compiles whatever they left.
    sampler = NumbaSampler(1)
    sampler.warm_up()
    sampler.close()
    CdfIndexBuilder().warm_up()
    compiled_scan()
    logging.getLogger(__name__).info("compiled in %.1f s", time.monotonic() - began)


def _collect_less() -> None:
    gc.set_threshold(_GARBAGE_THRESHOLD, 50, 50)


def _compile_drawing() -> None:
    sampler = NumbaSampler(1)
    for batch in batches():
        sampler.sample(batch)


def _compile_the_rest() -> None:
    NumbaSampler(1).verify(batches()[0], np.empty(0, np.int32), np.empty(0, np.int32), None)
    CdfIndexBuilder().warm_up()
    compiled_scan()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
