"""The feature `chunks`: large draws, chunk by chunk. See client/conformance/README.md for what is tried."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import numpy as np

from conformance_requests import MismatchError, expect
from samplerd_client import (
    ConnectionLostError,
    DeadlineError,
    InvalidRequestError,
    NotFoundError,
    SamplerClient,
    SamplerdError,
    UnavailableError,
)

__all__ = ["try_chunks"]

_ENDLESS = 2_000_000_000


async def try_chunks(target: str, retry_target: str, own: dict[str, Any]) -> str:
    """Draw in chunks from a samplerd, and from a server that refuses, breaks off and waits."""
    async with SamplerClient(target) as client:
        made = await client.create_distribution(np.array(own["rows"], np.float32))
        for case in own["cases"]:
            await _try_case(client, made.name, case)
        refused = await _failure(client, InvalidRequestError, distribution=made.name, temperature=-1.0)
        fields = [violation.field for violation in refused.violations]
        expect(fields == ["params.temperature"], f"a refusal names {fields}")
        await _failure(client, NotFoundError, distribution="there.is.none")
        await _stop_early(client, distribution=made.name, num_samples=_ENDLESS)
        await client.delete_distribution(made.name)
    async with SamplerClient(retry_target) as client:
        await _try_refusals(client)
        await _stop_early(client, distribution="endless", num_samples=_ENDLESS)
        expect((await client.sample(distribution="left")).samples.ravel().tolist() == [7], "answered otherwise")
    return f"{len(own['cases'])} draws"


async def _try_case(client: SamplerClient, name: str, case: dict[str, Any]) -> None:
    options = {key: case[key] for key in ("seed", "draw_offset", "temperature", "num_samples")}
    chunks = [chunk async for chunk in client.draw_chunks(distribution=name, **options)]
    samples = [int(token) for chunk in chunks for token in chunk.samples]
    expect(samples == case["samples"], f"{case['name']}: drew {samples}")
    expect(len(chunks) > 1, f"{case['name']}: came in one chunk")
    expect([chunk.index for chunk in chunks] == list(range(len(chunks))), f"{case['name']}: out of order")
    sizes = np.cumsum([0, *(len(chunk.samples) for chunk in chunks)])
    expect([chunk.offset for chunk in chunks] == sizes[:-1].tolist(), f"{case['name']}: other offsets")
    expect(
        [chunk.is_final for chunk in chunks].index(True) == len(chunks) - 1, f"{case['name']}: the last is not final"
    )
    expect({chunk.seed for chunk in chunks} == {case["seed"]}, f"{case['name']}: another seed")


async def _try_refusals(client: SamplerClient) -> None:
    """Meet a server that is busy before the first chunk, and one that is not there after it."""
    busy = [int(token) async for chunk in client.draw_chunks(distribution="busy") for token in chunk.samples]
    expect(busy == [7, 8], f"a server that was busy answered with {busy}")
    await _failure(client, UnavailableError, 1, distribution="broken")
    await _failure(client, ConnectionLostError, 1, distribution="cut")
    slow = [chunk.index async for chunk in client.draw_chunks(distribution="slow", timeout_s=2.0)]
    expect(slow == [0, 1, 2, 3, 4], f"a slow draw had chunks {slow}")
    await _failure(client, DeadlineError, 1, distribution="silent", timeout_s=0.3)


async def _failure(client: SamplerClient, kind: type[SamplerdError], chunks: int = 0, **options: Any) -> Any:
    """Return how a draw fails, after so many chunks."""
    got = 0
    try:
        async for _ in client.draw_chunks(**options):
            got += 1
    except kind as error:
        expect(got == chunks, f"{options}: failed after {got} chunks, not {chunks}")
        return error
    raise MismatchError(f"{options}: was answered, where {kind.__name__} was due")


async def _stop_early(client: SamplerClient, **options: Any) -> None:
    async with aclosing(client.draw_chunks(**options)) as chunks:
        indices = [(await anext(chunks)).index for _ in range(2)]
    expect(indices == [0, 1], f"began with chunks {indices}")
