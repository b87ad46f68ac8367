"""The samplers of a CUDA device. Without one these tests fail: they are asked for by name, `make test-gpu`."""

from __future__ import annotations

import pytest

from samplerd_server.sampling.choose import choose_sampler


@pytest.fixture(scope="session", params=["torch", "cuda"])
def sampler(request):
    """Both that draw on a device: torch operators, and our own kernels on a card."""
    sampler = choose_sampler("cuda:0", request.param)
    sampler.warm_up()
    yield sampler
    sampler.close()


@pytest.fixture(scope="session")
def on_card():
    """Our own kernels, as they are served."""
    sampler = choose_sampler("cuda:0", "cuda")
    sampler.warm_up()
    yield sampler
    sampler.close()
