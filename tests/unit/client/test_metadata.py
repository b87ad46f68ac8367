"""Metadata of the calls within a block."""

from __future__ import annotations

import asyncio

import pytest

from samplerd_client import call_metadata
from samplerd_client.channel import ChannelConfig
from samplerd_client.channel_pool import ChannelPool
from samplerd_client.metadata import current_metadata


def test_blocks_add_up_and_end() -> None:
    pool = ChannelPool(ChannelConfig(target="127.0.0.1:1", extra_metadata=(("team", "red"),)))
    with call_metadata({"x-request-id": "a", "traceparent": "t"}), call_metadata({"x-request-id": "b"}):
        assert pool.metadata() == (("team", "red"), ("traceparent", "t"), ("x-request-id", "b"))
    assert current_metadata() == ()
    assert pool.metadata() == (("team", "red"),)


async def test_tasks_that_begin_within_have_it_too() -> None:
    async def read() -> tuple[tuple[str, str], ...]:
        return current_metadata()

    with call_metadata({"x-request-id": "a"}):
        task = asyncio.create_task(read())
    assert await task == (("x-request-id", "a"),)


@pytest.mark.parametrize("key", ["authorization", "grpc-timeout", "Upper", "x-samplerd-client", ""])
def test_keys_of_others_are_refused(key: str) -> None:
    with pytest.raises(ValueError, match="no key for metadata"), call_metadata({key: "x"}):
        pass
