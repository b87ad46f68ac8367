"""Draws the stored batches on a card once, for compute-sanitizer: ``python -m tests.gpu.draw_golden``."""

from __future__ import annotations

from samplerd_server.batching.pack import pack
from samplerd_server.sampling.choose import choose_sampler
from tests.support.golden_rows import KINDS, batch, digest

NARROW = (40, 512, 1_000)
"""Under the sanitizer a kernel takes hundreds of times as long."""


def main() -> None:
    sampler, cpu = choose_sampler("cuda:0", "cuda", device_bytes=256 << 20), choose_sampler("cpu")
    sampler.warm_up()
    for kind in KINDS:
        own = pack(batch(kind, NARROW))
        assert digest(sampler.sample(own)) == digest(cpu.sample(own)), kind
    sampler.close()


if __name__ == "__main__":
    main()
