"""The sampler on a CUDA device. Without one these tests fail: they are asked for by name, `make test-gpu`."""

from __future__ import annotations

import pytest

from samplerd_server.sampling.choose import choose_sampler


@pytest.fixture(scope="session")
def sampler():
    sampler = choose_sampler("cuda:0")
    sampler.warm_up()
    yield sampler
    sampler.close()
