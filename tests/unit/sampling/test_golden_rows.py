"""The stored results that a GPU is held against are those of the compiled kernels."""

from __future__ import annotations

import pytest

from samplerd_server.batching.pack import pack
from tests.support.golden_rows import KINDS, batch, digest, stored
from tests.support.samplers import make_sampler


@pytest.mark.parametrize("kind", KINDS)
def test_stored_results_are_those_of_the_cpu(kind) -> None:
    got = digest(make_sampler("numba").sample(pack(batch(kind))))
    assert not any(got["status"])
    assert got == stored()[kind]


def test_every_kind_is_stored() -> None:
    assert list(stored()) == list(KINDS)
