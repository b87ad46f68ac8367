"""The sampler of rows for engines' loops, against a real server whose messages are smaller than a step."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from samplerd_client import NotFoundError, RowsFailedError, SamplingParams, SyncSamplerClient
from samplerd_client.integrations.rows import RowSampler, row_seeds
from tests.support.regions import FOLDER, PREFIX

V = 151_936
ROWS = np.random.default_rng(3).normal(size=(9, V)).astype(np.float32)  # 5.5 MB: two requests of 4 MiB
SEEDS = row_seeds(11, len(ROWS))
PARAMS = SamplingParams(temperature=0.9, top_k=50, top_p=0.9)


@pytest.fixture(params=[PREFIX, None], ids=["shared memory", "in messages"])
def sampler(request, daemon):
    with RowSampler(daemon.address, shared_memory_prefix=request.param) as own:
        yield own


def test_a_row_draws_alike_in_any_request(sampler, daemon):
    with SyncSamplerClient(daemon.address) as client:
        alone = [
            int(client.sample(row, params=PARAMS, row_seeds=[seed], draw_offset=2).samples[0, 0])
            for row, seed in zip(ROWS, SEEDS, strict=True)
        ]
    assert sampler.draw(ROWS, PARAMS, seeds=SEEDS, step=2).tolist() == alone
    assert sampler.draw(torch.from_numpy(ROWS), PARAMS, seeds=SEEDS, step=2).tolist() == alone
    assert sampler.draw(ROWS[:3], PARAMS, seeds=SEEDS[:3], step=2).tolist() == alone[:3]
    assert sampler.draw(ROWS, PARAMS, seeds=SEEDS, step=3).tolist() != alone


def test_each_row_has_its_parameters(sampler):
    each = [SamplingParams(temperature=0, logit_bias={row: 1e4}) for row in range(len(ROWS))]
    assert sampler.draw(ROWS, each, seeds=SEEDS, step=0).tolist() == list(range(len(ROWS)))


def test_a_bad_row_is_named_as_in_the_step(sampler):
    rows = ROWS.copy()
    rows[7, 5] = np.nan
    with pytest.raises(RowsFailedError, match=r"^row 7: ") as caught:
        sampler.draw(rows, PARAMS, seeds=SEEDS, step=0)
    assert [own.row for own in caught.value.row_errors] == [7]
    assert len(sampler.draw(ROWS, PARAMS, seeds=SEEDS, step=0)) == len(ROWS)


def test_what_is_no_step_is_refused(sampler):
    with pytest.raises(ValueError, match="9 rows need as many seeds and params, got 2 seeds"):
        sampler.draw(ROWS, PARAMS, seeds=SEEDS[:2], step=0)
    with pytest.raises(ValueError, match=r"^rows: expected logits \[B, V\]"):
        sampler.draw(ROWS[0], PARAMS, seeds=SEEDS[:1], step=0)
    with pytest.raises(ValueError, match="more than a request of this server may hold"):
        sampler.draw(np.zeros((1, 2 << 20), np.float32), PARAMS, seeds=[1], step=0)


def test_a_region_that_the_server_cannot_read_is_told(daemon):
    with RowSampler(daemon.address, shared_memory_prefix=PREFIX) as sampler:
        sampler.draw(ROWS[:1], PARAMS, seeds=SEEDS[:1], step=0)
        assert sampler._region is not None
        (FOLDER / sampler._region.key).unlink()
        with pytest.raises(NotFoundError, match=r"shared_memory\.key"):
            sampler.draw(ROWS[:1], PARAMS, seeds=SEEDS[:1], step=1)
