"""tritonclient: the calls of its published examples, with the ids that samplerd's own client gets for the same seed."""

from __future__ import annotations

import pytest

from tests.stock_clients.native import LOGPROBS, native
from tests.stock_clients.run import run
from tests.support.regions import PREFIX

pytestmark = [pytest.mark.stock, pytest.mark.timeout(600)]


async def test_the_examples_over_grpc(daemon):
    got = run("tritonclient", "triton_grpc.py", daemon.address, PREFIX)
    own = await native(daemon.address)
    wrong = got["health"].pop("wrong")
    assert got["health"] == {
        "unknown": False,
        **dict.fromkeys(("live", "ready", "model"), True),
        "server": "samplerd",
        **dict.fromkeys(("metadata", "config", "statistics"), "sampler"),
    }
    assert "Request for unknown model" in wrong
    assert "failed to load" in got["control"].pop("load")
    assert got["control"] == {"index": [["sampler", "READY"]], "trace": ["OFF"], "log": True, "cuda": 0}
    assert got["infer"] == got["async"] == got["shared_memory"]["samples"] == own
    assert got["stream"] == {str(number): own for number in range(4)}
    assert got["shared_memory"]["regions"] == ["input_data", "output_data"]
    assert got["shared_memory"]["logprobs"] == [pytest.approx(LOGPROBS, abs=1e-3)]
    assert got["aio"]["replies"] == [await native(daemon.address, 42 + number) for number in range(4)]
    assert got["aio"]["streamed"] == [own]


async def test_the_examples_over_http(daemon):
    got = run("tritonclient", "triton_http.py", daemon.http_address, PREFIX)
    own = await native(daemon.address)
    wrong = got["health"].pop("wrong")
    assert got["health"] == {
        "unknown": False,
        **dict.fromkeys(("live", "ready", "model", "version"), True),
        "server": "samplerd",
        **dict.fromkeys(("metadata", "config", "statistics"), "sampler"),
    }
    assert "404 Request for unknown model" in wrong
    assert "failed to load" in got["control"].pop("load")
    assert got["control"] == {"index": [["sampler", "READY"]], "trace": ["OFF"], "log": True, "cuda": []}
    inferred = got["infer"]
    for way in ("binary", "json", "mixed", "version", "async"):
        assert inferred[way] == own, way
    assert inferred["logprobs"] == got["shared_memory"]["logprobs"] == [pytest.approx(LOGPROBS, abs=1e-3)]
    assert inferred["id"] == "one"
    assert inferred["zipped"] == [True, True]
    assert inferred["largest"] == await native(daemon.address, 2**64 - 1)
    assert "400" in inferred["wrong"]
    assert "top_p" in inferred["wrong"]
    assert "404 Request for unknown model" in inferred["model"]
    assert got["shared_memory"]["samples"] == own
    assert got["shared_memory"]["regions"] == ["input_data", "output_data"]
    assert got["aio"] == {"ready": True, "replies": [await native(daemon.address, 42 + number) for number in range(4)]}
