"""The laws on a CUDA device: the suites of the CPU's samplers, run over the device's."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from samplerd_server.batching.pack import pack
from samplerd_server.core.enums import LogprobKind
from samplerd_server.sampling.choose import choose_sampler
from tests.property.test_adjustments import *  # noqa: F403  # masks, biases and penalties
from tests.property.test_sampler_laws import *  # noqa: F403  # every law, over the fixture of this folder
from tests.statistical.test_goodness_of_fit import *  # noqa: F403  # every fit
from tests.support.samplers import outputs, params, request
from tests.unit.sampling.test_cases_others_got_wrong import *  # noqa: F403  # every case

pytestmark = pytest.mark.gpu


def test_the_device_is_a_gpu(sampler) -> None:
    assert sampler.name in {"torch", "cuda + numba"}
    assert choose_sampler("cuda:0").name == "cuda + numba", "it is what `auto` takes"


@pytest.mark.parametrize("vocab_size", [1_024, 32_768, 131_072])
def test_cpu_and_gpu_agree_but_for_boundaries(sampler, vocab_size: int) -> None:
    """Null: ids differ only where u lies within rounding of a boundary; at most 1 in 1,000 of 20,000 draws."""
    rng = np.random.default_rng(11)
    asked = request(rng.normal(scale=3.0, size=vocab_size), num_samples=20_000, seed=7, params=params(temperature=0.8))
    gpu = sampler.sample(pack([asked])).samples
    cpu = choose_sampler("cpu", "torch").sample(pack([asked])).samples

    assert np.mean(gpu != cpu) <= 1e-3


def test_batch_mates_change_no_bit(sampler) -> None:
    rng = np.random.default_rng(12)
    requests = [
        request(
            rng.normal(size=int(rng.integers(2, 5_000))),
            num_samples=3,
            seed=number,
            params=params(temperature=float(rng.uniform(0.2, 3.0)), top_p=0.9) if number % 2 else params(),
            outputs=outputs(LogprobKind.RAW, LogprobKind.SCALED),
        )
        for number in range(60)
    ]
    alone = [sampler.sample(pack([asked])) for asked in requests]
    order = rng.permutation(len(requests)).tolist()
    together = sampler.sample(pack([requests[at] for at in order]))

    for place, at in enumerate(order):
        span = slice(3 * place, 3 * place + 3)
        assert np.array_equal(together.samples[span], alone[at].samples)
        for kind in (LogprobKind.RAW, LogprobKind.SCALED):
            assert np.array_equal(together.logprobs[kind][span], alone[at].logprobs[kind])


def test_requests_are_left_as_they_were(sampler) -> None:
    asked = request([1.0, 2.0, 0.5, 1.5], seed=3)
    before = dataclasses.asdict(asked)["source"]["data"]
    sampler.sample(pack([asked]))
    assert asked.source.data == before
