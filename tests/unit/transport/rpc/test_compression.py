"""Compressed messages: what is taken, what is refused, and how much memory it takes."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest

from samplerd_server.core.errors import InvalidRequestError, MessageTooLargeError, NotImplementedFieldError
from samplerd_server.transport.rpc.compression import compress, inflate, inflate_now, takes_gzip

LIMIT = 1 << 20
PACK = {"gzip": gzip.compress, "deflate": zlib.compress, "identity": bytes}


@pytest.mark.parametrize("encoding", PACK)
@pytest.mark.parametrize("message", [b"", b"logits", bytes(LIMIT), bytes(range(256)) * 100], ids=len)
async def test_what_was_compressed_comes_back(encoding, message):
    assert await inflate(PACK[encoding](message), encoding, LIMIT) == message


@pytest.mark.parametrize("encoding", PACK)
async def test_the_limit_is_of_the_inflated_size(encoding):
    assert len(await inflate(PACK[encoding](bytes(LIMIT)), encoding, LIMIT)) == LIMIT
    with pytest.raises(MessageTooLargeError, match=f"{LIMIT} bytes"):
        await inflate(PACK[encoding](bytes(LIMIT + 1)), encoding, LIMIT)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_bomb_takes_no_more_memory_than_the_limit_allows(encoding):
    bomb = PACK[encoding](bytes(128 << 20))
    assert len(bomb) < 1 << 18
    tracemalloc.start()
    try:
        with pytest.raises(MessageTooLargeError):
            inflate_now(bomb, encoding, LIMIT)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * LIMIT + 2 * len(bomb) + (1 << 17)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("size", [10, 100_000])
async def test_what_is_no_stream(encoding, size):
    good = PACK[encoding](bytes(i * i % 251 for i in range(size)))
    flipped = good[:-1] + bytes([good[-1] ^ 1])  # of the checksum
    for bad in (b"", b"x" * 50, good[:-1], good[: len(good) // 2], good + b"x", good + good, flipped):
        with pytest.raises(InvalidRequestError, match="request: the message is not"):
            await inflate(bad, encoding, LIMIT)


@pytest.mark.parametrize("encoding", ["br", "zstd", "GZIP", "", "x" * 1000])
async def test_another_encoding(encoding):
    with pytest.raises(NotImplementedFieldError, match="send gzip, deflate or identity") as caught:
        await inflate(b"x", encoding, LIMIT)
    assert len(caught.value.message) < 150


async def test_replies_are_compressed_where_it_pays():
    long = b'{"samples":[1,2,3]}' * 1000
    compressed = await compress(long)
    assert compressed is not None
    assert len(compressed) < len(long) / 10
    assert gzip.decompress(compressed) == long
    assert await compress(long[:2000]) is None
    assert await compress(compressed * 100) is not None  # repeats
    noise = bytes(i * i * i % 65521 & 255 for i in range(8192))
    assert await compress(zlib.compress(noise)) is None


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        ("gzip", True),
        ("deflate, gzip;q=0.5, br", True),
        ("GZIP ; q=1.0", True),
        ("", False),
        ("br, identity", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("xgzip", False),
    ],
)
def test_what_a_client_takes(accepted, expected):
    assert takes_gzip(accepted) is expected
