"""tritonclient: the calls of its published examples, with the ids that samplerd's own client gets for the same seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from samplerd_client import SamplerClient
from tests.stock_clients.run import run
from tests.support.regions import PREFIX

pytestmark = [pytest.mark.stock, pytest.mark.timeout(600)]

ROW = np.array([[1, 2, 0.5, 1.5]], np.float32)


async def native(address: str, seed: int = 42) -> Any:
    """What samplerd's own client draws for the request of the programs."""
    async with SamplerClient(address) as client:
        result = await client.sample(ROW, temperature=0.7, seed=seed, num_samples=5)
    return result.samples.tolist()


async def test_the_examples_over_grpc(daemon):
    got = run("tritonclient", "triton_grpc.py", daemon.address, PREFIX)
    own = await native(daemon.address)
    wrong = got["health"].pop("wrong")
    assert got["health"] == {
        **dict.fromkeys(("live", "ready", "model"), True),
        "server": "samplerd",
        **dict.fromkeys(("metadata", "config", "statistics"), "sampler"),
    }
    assert "wrong_model_name" in wrong
    assert got["infer"] == got["async"] == got["shared_memory"]["samples"] == own
    assert got["stream"] == {str(number): own for number in range(4)}
    assert got["shared_memory"]["regions"] == ["input_data", "output_data"]
    assert np.all(np.array(got["shared_memory"]["logprobs"]) < 0)
    assert got["aio"]["replies"] == [await native(daemon.address, 42 + number) for number in range(4)]
    assert got["aio"]["streamed"] == [own]
