"""Compile all kernels into the cache on disk: a step of installations and of image builds."""

from __future__ import annotations

import logging
import time

from samplerd_server.sampling.cdf_index.builder import CdfIndexBuilder
from samplerd_server.sampling.kernels import NumbaSampler
from samplerd_server.transport.codec.compiled_scan import compiled_scan


def main() -> None:
    """Compile what is not in the cache yet."""
    began = time.monotonic()
    sampler = NumbaSampler(1)
    sampler.warm_up()
    sampler.close()
    CdfIndexBuilder().warm_up()
    compiled_scan()
    logging.getLogger(__name__).info("compiled in %.1f s", time.monotonic() - began)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
