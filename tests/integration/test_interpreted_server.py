"""A whole server over the kernels for a GPU, interpreted: its replies are those of a server on the CPU, to the bit."""

from __future__ import annotations

import numpy as np
import pytest

from samplerd.v1 import sampler_pb2 as pb
from tests.support.daemon import Daemon
from tests.support.served import connect, stub
from tests.support.served_mix import compare_servers, make_draft, without_times

pytestmark = pytest.mark.slow
WIDTH, ROWS = 300, 2


@pytest.fixture(scope="module")
def servers():
    with Daemon("--device", "interpret", "--device-memory", "8MiB") as interpreted, Daemon("--device", "cpu") as cpu:
        yield interpreted, cpu


def read(daemon: Daemon, name: str) -> float:
    return daemon.metrics()[f'samplerd_device_{name}{{device="interpret"}}']


async def test_replies_are_those_of_the_cpu(servers) -> None:
    interpreted, cpu = servers
    before = [read(interpreted, name) for name in ("launches_total", "waits_total", "copies_total")]
    await compare_servers(interpreted.address, cpu.address, 24, widths=(5, 300))
    after = [read(interpreted, name) for name in ("launches_total", "waits_total", "copies_total")]
    launches, waits, copies = (now - then for now, then in zip(after, before, strict=True))
    assert 0 < 2 * waits <= launches <= 8 * waits
    assert copies == waits, "one copy and one wait for a batch"
    assert read(interpreted, "memory_limit_bytes") == 8 << 20
    assert read(interpreted, "memory_bytes") == read(interpreted, "kept_bytes")
    assert not [name for name in cpu.metrics() if name.startswith("samplerd_device_")]


async def test_drafts_are_verified_on_the_card_and_large_ones_not_in_slices(servers) -> None:
    interpreted, cpu = servers
    async with connect(interpreted.address) as one, connect(cpu.address) as other:
        for number, width in ((1, 40), (2, 20_000)):
            before = [read(interpreted, name) for name in ("launches_total", "waits_total", "copies_total")]
            draft = make_draft(number, (width,))
            verdict = without_times(await stub(one).VerifyDraft(draft, timeout=500))
            after = [read(interpreted, name) for name in ("launches_total", "waits_total", "copies_total")]
            launches, waits, copies = (now - then for now, then in zip(after, before, strict=True))
            assert (waits, copies) == (1, 1)
            assert 2 <= launches <= 5
            assert without_times(await stub(other).VerifyDraft(draft, timeout=60)) == verdict


async def test_what_draws_is_told(servers) -> None:
    async with connect(servers[0].address) as channel:
        info = await stub(channel).GetServerInfo(pb.GetServerInfoRequest(), timeout=60)
    assert (info.device, info.kernel) == ("interpret", "triton-interpreter + numba")


async def test_rows_of_a_distribution_stay_on_the_card_until_it_is_deleted(servers) -> None:
    data = np.random.default_rng(5).normal(size=(ROWS, WIDTH)).astype(np.float32).tobytes()
    tensor = pb.Tensor(dtype=pb.DTYPE_F32, rows=ROWS, vocab_size=WIDTH, data=data)
    asked = pb.SampleRequest(id=1, seed=3, num_samples=2, distribution="kept")
    asked.params.top_p = 0.9
    asked.outputs.logprobs.append(pb.LOGPROB_KIND_SCALED)
    interpreted, cpu = servers
    async with connect(interpreted.address) as one, connect(cpu.address) as other:
        for own in (one, other):
            await stub(own).CreateDistribution(pb.CreateDistributionRequest(name="kept", tensor=tensor), timeout=60)
        want = without_times(await stub(other).Sample(asked, timeout=60))
        before = read(interpreted, "kept_bytes")
        assert without_times(await stub(one).Sample(asked, timeout=60)) == want
        assert read(interpreted, "kept_bytes") == before + len(data)
        copies = read(interpreted, "copies_total")
        assert without_times(await stub(one).Sample(asked, timeout=60)) == want
        assert read(interpreted, "copies_total") == copies
        for own in (one, other):
            await stub(own).DeleteDistribution(pb.DeleteDistributionRequest(name="kept"), timeout=60)
        asked.tensor.CopyFrom(tensor)
        assert without_times(await stub(one).Sample(asked, timeout=60)) == want
        assert read(interpreted, "kept_bytes") == before
