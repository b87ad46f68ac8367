"""Tensors on a CUDA device given to the client, over real sockets, with the double of a card on both sides."""

from __future__ import annotations

import asyncio
import gc
import threading
from contextlib import aclosing
from dataclasses import replace

import numpy as np
import pytest
import torch

from samplerd_client import (
    CudaMemoryError,
    NotFoundError,
    NotImplementedFieldError,
    SamplerClient,
    SamplerdError,
    SamplingParams,
    SyncSamplerClient,
)
from samplerd_client.device_rows import is_on_device
from samplerd_client.integrations.rows import RowSampler, _as_they_lie, row_seeds
from tests.support.cuda_tensor import card, freed
from tests.support.daemon import Daemon

__all__ = ["card"]

pytestmark = pytest.mark.slow

ROWS = np.random.default_rng(11).normal(0, 3, (3, 300)).astype(np.float32)
FLAGS = ("--device", "interpret", "--device-memory", "8MiB", "--cuda-shared-memory")
HOW = {"seed": 5, "num_samples": 3, "top_p": 0.9, "logprobs": "scaled"}


@pytest.fixture(scope="module")
def daemon():
    with Daemon(*FLAGS) as own:
        yield own


@pytest.fixture
async def client(daemon):
    async with SamplerClient(daemon.address) as own:
        yield own
    assert daemon.metrics()["samplerd_cuda_shared_memory_regions"] == 0


def same(got, want) -> bool:
    return np.array_equal(got.samples, want.samples) and np.array_equal(got.logprobs["scaled"], want.logprobs["scaled"])


async def test_draws_are_those_of_the_wire_and_nothing_crosses_the_bus(daemon, client, card) -> None:
    want = await client.sample(ROWS, **HOW)
    block = card.allocate(16_384)
    tensor = block.tensor(ROWS, offset=12)
    before = daemon.metrics()
    for _ in range(3):
        assert same(await client.sample(tensor, **HOW), want)
    metrics = daemon.metrics()
    for name, change in (
        ('samplerd_device_copied_bytes_total{device="interpret"}', 0),
        ("samplerd_cuda_shared_memory_bytes_total", 3 * ROWS.nbytes),
        ("samplerd_cuda_shared_memory_regions", 1),
    ):
        assert metrics[name] - before[name] == change, name
    half = block.tensor(ROWS.astype(np.float16), offset=8192)
    assert same(await client.sample(half[1], **HOW), await client.sample(ROWS.astype(np.float16)[1], **HOW))
    assert daemon.metrics()["samplerd_cuda_shared_memory_regions"] == 1


async def test_bfloat16_and_many_calls_at_once(client, card) -> None:
    rows = torch.from_numpy(ROWS).bfloat16()
    tensor = card.tensor(rows)
    wanted = [await client.sample(rows[at], **HOW) for at in range(3)]
    results = await asyncio.gather(*(client.sample(tensor[at % 3], **HOW) for at in range(24)))
    assert all(same(got, wanted[at % 3]) for at, got in enumerate(results))


async def test_guidance_beside_rows_of_either_kind(client, card) -> None:
    guided = {**HOW, "guidance_scale": 1.5}
    want = await client.sample(ROWS[0], guidance=ROWS[1], **guided)
    rows, guidance = card.tensor(ROWS[0]), card.tensor(ROWS[1])
    assert same(await client.sample(ROWS[0], guidance=guidance, **guided), want)
    assert same(await client.sample(rows, guidance=ROWS[1], **guided), want)
    assert same(await client.sample(rows, guidance=guidance, **guided), want)
    with pytest.raises(ValueError, match=r"^guidance: the tensor is not contiguous"):
        await client.sample(rows, guidance=card.tensor(ROWS).t(), **guided)


async def test_streams_and_chunks(client, card) -> None:
    want = await client.sample(ROWS, **HOW)
    tensor = card.tensor(ROWS)
    async with client.stream() as stream:
        assert same(await stream.sample(tensor, **HOW), want)
        async with aclosing(stream.sample_chunks(tensor[0], seed=5, num_samples=100_000)) as chunks:
            got = np.concatenate([chunk.samples async for chunk in chunks])
    whole = await client.sample(ROWS[0], seed=5, num_samples=100_000)
    assert np.array_equal(got, whole.samples[0])


async def test_distributions(client, card) -> None:
    made = await client.create_distribution(card.tensor(ROWS), name="tensors", dtype="f32")
    assert (made.rows, made.vocab_size) == ROWS.shape
    try:
        drawn = await client.sample(distribution="tensors", seed=5, num_samples=3)
        assert np.array_equal(drawn.samples, (await client.sample(ROWS, seed=5, num_samples=3)).samples)
        parts = [own async for own in client.draw_chunks(distribution="tensors", seed=5, num_samples=3)]
        assert np.array_equal(np.concatenate([own.samples for own in parts]), drawn.samples.ravel())
    finally:
        await client.delete_distribution("tensors")


def test_the_synchronous_client_captures_on_the_thread_of_its_caller(daemon, card, monkeypatch) -> None:
    stream, threads = card.stream, []
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: threads.append(threading.get_ident()) or stream)
    stream.late = True
    tensor = card.tensor(ROWS)
    with SyncSamplerClient(daemon.address) as client:
        want = client.sample(ROWS, **HOW)
        assert same(client.sample(tensor, **HOW), want)
        assert same(client.submit(tensor, **HOW).result(60), want)
        with client.stream() as calls:
            assert same(calls.sample(tensor, **HOW), want)
            assert same(calls.submit(tensor, **HOW).result(60), want)
            assert sum(len(own.samples) for own in calls.sample_chunks(tensor[0], num_samples=10)) == 10
        client.create_distribution(tensor, name="sync")
        client.delete_distribution("sync")
    assert threads == [threading.get_ident()] * 6
    assert [event.waits for event in stream.events] == [1] * 6
    assert daemon.metrics()["samplerd_cuda_shared_memory_regions"] == 0


async def test_a_server_that_was_started_again_has_the_memory_registered_again(card) -> None:
    tensor, other = card.tensor(ROWS), card.tensor(ROWS[:1])
    with Daemon(*FLAGS) as daemon:
        address = daemon.address
        client = SamplerClient(address)
        await client.connect()
        want = await client.sample(tensor, **HOW)
        guided = await client.sample(tensor[0], guidance=other, guidance_scale=1.5, **HOW)
    with Daemon("--listen", address, *FLAGS) as daemon:
        await client.wait_ready(60)
        calls = [client.sample(tensor, **HOW) for _ in range(4)]
        assert all(same(got, want) for got in await asyncio.gather(*calls))
        async with client.stream() as stream:
            assert same(await stream.sample(tensor[0], guidance=other, guidance_scale=1.5, **HOW), guided)
        assert daemon.metrics()["samplerd_cuda_shared_memory_regions"] == 2
        await client.aclose()
        assert daemon.metrics()["samplerd_cuda_shared_memory_regions"] == 0
        storage = freed(tensor)
        del tensor, calls
        gc.collect()
        assert storage() is None


async def test_another_thing_that_is_not_found_is_no_region(client, card) -> None:
    with pytest.raises(ValueError, match="exactly once"):
        await client.sample(card.tensor(ROWS), distribution="none")
    with pytest.raises(ValueError, match="exactly once"):
        await client.create_distribution(card.tensor(ROWS), shared_memory=card.tensor(ROWS))
    with pytest.raises(TypeError, match="as the first argument"):
        await client.sample(shared_memory=card.tensor(ROWS))
    with pytest.raises(NotFoundError, match="none"):
        await client.sample(distribution="none", guidance=card.tensor(ROWS), guidance_scale=2.0)


async def test_memory_without_a_handle_and_drafts_say_what_to_do(client, card) -> None:
    tensor = card.tensor(ROWS)
    for target, draft, name in ((tensor, None, "target"), (ROWS, card.tensor(np.exp(ROWS[:2])), "draft")):
        with pytest.raises(TypeError, match=rf"^{name}: .*host memory alone; send {name}\.cpu\(\)"):
            await client.verify_draft(target, [1, 2], draft)
        async with client.verify_stream() as stream:
            with pytest.raises(TypeError, match=rf"^{name}: .*send {name}\.cpu\(\)"):
                await stream.verify(target, [1, 2], draft)
    assert (await client.verify_draft(ROWS, [1, 2], seed=1)).samples.size
    card.failure = "expandable_segments:False"
    with pytest.raises(CudaMemoryError, match="expandable_segments:False"):
        await client.sample(tensor)


STEP = {"seeds": row_seeds(3, len(ROWS)), "step": 4}


@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16])
def test_an_engines_loop_leaves_rows_on_the_device(daemon, card, kind) -> None:
    rows = torch.from_numpy(ROWS).to(kind)
    params = SamplingParams(temperature=0.9, top_p=0.9)
    with RowSampler(daemon.address) as sampler:
        want = sampler.draw(rows, params, **STEP)
    with RowSampler(daemon.address, cuda_shared_memory=True) as sampler:
        tensor = card.tensor(rows)
        before = daemon.metrics()
        assert sampler.draw(tensor, params, **STEP).tolist() == want.tolist()
        sampler._limits = replace(sampler._connect(), max_rows_per_request=2)
        assert sampler.draw(tensor, params, **STEP).tolist() == want.tolist()
        after = daemon.metrics()
        name = "samplerd_cuda_shared_memory_bytes_total"
        assert after[name] - before[name] == 2 * rows.nbytes
        name = 'samplerd_device_copied_bytes_total{device="interpret"}'
        assert after[name] == before[name]
        assert sampler.draw(rows, params, **STEP).tolist() == want.tolist()  # rows on the host go as ever
    with RowSampler(daemon.address) as sampler:  # unless it is told, what is on the device is copied
        assert sampler.draw(card.tensor(rows), params, **STEP).tolist() == want.tolist()


def test_what_the_server_cannot_read_where_it_lies_is_copied_on_the_device(card) -> None:
    rows = torch.from_numpy(ROWS)
    for given, kind in (
        (card.tensor(rows.double()), torch.float32),
        (card.tensor(rows.half())[:, 100:200], torch.float16),
        (card.tensor(rows.T.contiguous()).T.requires_grad_(), torch.float32),
    ):
        sent = _as_they_lie(given)
        assert is_on_device(sent)
        assert (sent.dtype, sent.is_contiguous(), sent.requires_grad) == (kind, True, False)
        assert torch.equal(sent, given.to(kind))
    whole = card.tensor(rows)
    assert _as_they_lie(whole).data_ptr() == whole.data_ptr()


async def test_with_several_servers_or_connections_it_says_so(daemon, card) -> None:
    tensor = card.tensor(ROWS)
    for options in ({"connections": 2}, {"balance": True}):
        async with SamplerClient(daemon.address, **options) as client:
            with pytest.raises(ValueError, match=r"one target, no balance=True, and connections=1; or .*\.cpu\(\)"):
                await client.sample(tensor)
            await client.sample(ROWS)


async def test_where_it_is_off_it_says_what_turns_it_on(card) -> None:
    with Daemon("--device", "cpu") as daemon:
        async with SamplerClient(daemon.address) as client:
            with pytest.raises(NotImplementedFieldError, match=r"is off on this server.*--cuda-shared-memory, or send"):
                await client.sample(card.tensor(ROWS))
            await client.sample(ROWS)


async def test_a_device_that_is_not_the_servers_is_the_servers_error(client, card, monkeypatch) -> None:
    tensor = card.tensor(ROWS)
    monkeypatch.setattr(type(tensor), "device", property(lambda self: torch.device("cuda", 1)))
    with pytest.raises(SamplerdError, match="device_id: is 1, but this server draws on device 0"):
        await client.sample(tensor)
