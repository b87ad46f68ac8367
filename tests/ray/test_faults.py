"""A samplerd, a replica and a node are killed under load: no call is lost, and Ray replaces what is gone.

A distribution that was uploaded once gives the same ids on every replica, those that came later too.
"""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks.front import Front
from samplerd.v1 import sampler_pb2 as pb
from samplerd_client import NotFoundError, RetryPolicy, SamplerClient
from tests.ray.conftest import WAIT_S, Fleet, Nodes, kill
from tests.support.balanced import ClientLoad
from tests.support.requests import tensor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.ray, pytest.mark.timeout(1800)]


async def draw(addresses: list[str]) -> set[bytes]:
    """The ids that the servers draw by name, each by itself."""
    drawn = set()
    for address in addresses:
        async with SamplerClient(address) as client:
            drawn.add((await client.sample(distribution="words", num_samples=500, seed=7)).samples.tobytes())
    assert len(drawn) == 1
    return drawn


def scrape(fleet: Fleet) -> None:
    """Read the metrics of every replica at the address that Prometheus is told, which is its node's."""
    [group] = json.loads(fleet.targets.read_text())
    assert sorted(own.rpartition(":")[0] for own in group["targets"]) == ["127.0.0.2", "127.0.0.3"]
    for target in group["targets"]:
        with urllib.request.urlopen(f"http://{target}/metrics", timeout=WAIT_S) as reply:
            assert b"samplerd_requests_total" in reply.read()


def wait_until_nobody_holds(fleet: Fleet) -> None:
    give_up = time.monotonic() + WAIT_S
    while any(own["distributions"] for own in fleet.places()):
        assert time.monotonic() < give_up


async def test_nothing_is_lost_and_all_is_replaced(
    nodes: Nodes, start_fleet: Callable[..., Fleet], tmp_path: Path, record_testsuite_property: Callable[..., None]
) -> None:
    fleet = start_fleet("--replicas", "2")
    await asyncio.to_thread(fleet.wait, lambda found: len(found) == 2)
    replaced: dict[str, float] = {}

    async def lose(what: str, killed: str, end: Callable[[], None]) -> None:
        began = time.monotonic()
        await asyncio.to_thread(end)
        await asyncio.to_thread(fleet.wait, lambda found: len(found) == 2 and killed not in found)
        replaced[what] = time.monotonic() - began
        await asyncio.to_thread(front.wait_healthy, "least_busy", 2)
        await load.more(200)

    rows = tensor(np.random.default_rng(0).normal(size=(4, 5000)))
    upload = pb.CreateDistributionRequest(name="words", tensor=rows)
    (tmp_path / "upload").write_bytes(upload.SerializeToString())
    done = await asyncio.to_thread(fleet.run, "upload", str(tmp_path / "upload"))
    assert done.returncode == 0, done.stderr
    assert "words: held by 2 of 2" in done.stderr
    drawn = await draw(fleet.addresses())
    await asyncio.to_thread(scrape, fleet)
    # The file is the fleet's; Front's own first text of it has the same addresses.
    text = fleet.endpoints.read_text()
    front = Front(tmp_path, fleet.addresses())
    fleet.endpoints.write_text(text)
    with front:
        await asyncio.to_thread(front.wait_healthy, "least_busy", 2)
        async with ClientLoad(front.address, callers=4, retry=RetryPolicy(max_attempts=1)) as load:
            status = await asyncio.to_thread(fleet.status)
            assert status["directory_node"] == nodes.head
            assert status["starting"] == {}
            places = status["replicas"]
            assert {own["node"] for own in places} == {nodes.head, nodes.other}
            # First the node: later, both replicas may be on one.
            [gone] = [own for own in places if own["node"] == nodes.other]

            def lose_node() -> None:
                nodes.tell(f"kill {nodes.other} {gone['samplerd_pid']} {gone['actor_pid']}")

            await lose("node", gone["address"], lose_node)
            one, other = await asyncio.to_thread(fleet.places)
            assert {one["node"], other["node"]} == {nodes.head}
            await lose("samplerd", one["address"], lambda: kill([one["samplerd_pid"]]))
            assert one["actor_pid"] in {own["actor_pid"] for own in await asyncio.to_thread(fleet.places)}
            await lose("replica", other["address"], lambda: kill([other["actor_pid"]]))
            places = await asyncio.to_thread(fleet.places)
            assert [own["distributions"] for own in places] == [["words"], ["words"]]
            answered = load.answered
            assert await draw(fleet.addresses()) == drawn
        assert not load.lost, load.lost
    again = await asyncio.to_thread(fleet.run, "upload", str(tmp_path / "upload"))
    assert again.returncode == 1
    assert "'words' is kept already" in again.stderr
    assert (await asyncio.to_thread(fleet.run, "forget", "words")).returncode == 0
    await asyncio.to_thread(wait_until_nobody_holds, fleet)
    for address in fleet.addresses():
        with pytest.raises(NotFoundError):
            await draw([address])
    for what, seconds in replaced.items():
        print(f"{what}: replaced {seconds:.1f} s after it was killed")
    print(json.dumps({"answered": answered, "lost": 0, "replaced_s": replaced}))
