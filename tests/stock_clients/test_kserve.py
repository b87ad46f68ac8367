"""KServe's Python SDK, unchanged: the same ids for the same seed as samplerd's own client gets."""

from __future__ import annotations

import pytest

from tests.stock_clients.native import LOGPROBS, native
from tests.stock_clients.run import run

pytestmark = [pytest.mark.stock, pytest.mark.timeout(600)]


async def test_the_sdk_over_grpc(daemon):
    got = run("kserve", "kserve_grpc.py", daemon.address)
    own = await native(daemon.address)
    assert got["live"] == [True, True]
    assert got["model"] == [True, False]
    assert got["id"] == "one"
    for way in ("numpy", "half", "list", "array", "outputs"):
        assert got[way] == own, way
    assert got["logprobs"] == [pytest.approx(LOGPROBS, abs=1e-3)]
    assert got["largest"] == await native(daemon.address, 2**63 - 1)
    first, again = got["replayed"]
    assert first == again
    assert "Request for unknown model" in got["wrong"]


async def test_the_sdk_over_http(daemon):
    got = run("kserve", "kserve_rest.py", daemon.http_address)
    own = await native(daemon.address)
    assert got["live"] == [True, True]
    assert got["model"] == [True, False]
    assert got["id"] == "one"
    for way in ("binary", "half", "json", "list", "outputs", "all_binary"):
        assert got[way] == own, way
    assert got["logprobs"] == [pytest.approx(LOGPROBS, abs=1e-3)]
    assert got["largest"] == await native(daemon.address, 2**64 - 1)
    first, again = got["replayed"]
    assert first == again
    assert "Request for unknown model" in got["wrong"]
