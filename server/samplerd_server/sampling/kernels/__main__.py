"""Compile the kernels and leave them in the cache on disk: a step of the installation or of an image build."""

from __future__ import annotations

import logging
import time

from samplerd_server.sampling.kernels.sampler import NumbaSampler


def main() -> None:
    """Compile what is not in the cache yet."""
    began = time.monotonic()
    sampler = NumbaSampler(1)
    sampler.warm_up()
    sampler.close()
    logging.getLogger(__name__).info("kernels compiled in %.1f s", time.monotonic() - began)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
