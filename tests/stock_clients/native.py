"""What samplerd's own client draws for the request that the programs of the stock clients make."""

from __future__ import annotations

from typing import Any

import numpy as np

from samplerd_client import SamplerClient

__all__ = ["LOGPROBS", "native"]

ROW = np.array([[1, 2, 0.5, 1.5]], np.float32)
LOGPROBS = [-0.6132, -1.3275, -1.3275, -2.7561, -0.6132]
"""Of the five samples with the seed 42, after the temperature of 0.7."""


async def native(address: str, seed: int = 42) -> Any:
    """Draw five samples of the programs' row at T = 0.7: a list of one list of ids."""
    async with SamplerClient(address) as client:
        result = await client.sample(ROW, temperature=0.7, seed=seed, num_samples=5)
    return result.samples.tolist()
