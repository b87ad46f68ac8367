"""Replicas come under load and go without it, and no call is lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from benchmarks.front import Front
from samplerd_client import RetryPolicy, SamplerClient
from tests.support.balanced import ClientLoad

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.ray.conftest import Fleet

pytestmark = [pytest.mark.ray, pytest.mark.timeout(1800)]


async def test_replicas_come_under_load_and_go_without_it(start_fleet: Callable[..., Fleet], tmp_path: Path) -> None:
    # So small a share of a CPU that the load of a test, on a machine that others use too, is more than that.
    pace = ("--scale-up-after", "2", "--scale-down-after", "6")
    fleet = start_fleet("--autoscale", "1:2", *pace, "--cpus", "0.15")
    await asyncio.to_thread(fleet.wait, lambda found: len(found) == 1)
    text = fleet.endpoints.read_text()
    front = Front(tmp_path, fleet.addresses())
    fleet.endpoints.write_text(text)
    with front:
        await asyncio.to_thread(front.wait_healthy, "least_busy", 1)
        async with ClientLoad(front.address, callers=64, retry=RetryPolicy(max_attempts=1)) as load:
            await asyncio.to_thread(fleet.wait, lambda found: len(found) == 2)
            await load.more(200)
        assert not load.lost, load.lost
        # One call at a time, and few of them: none may fail while a replica goes.
        async with SamplerClient(front.address, retry=RetryPolicy(max_attempts=1)) as client:
            while len(fleet.addresses()) > 1:
                await client.sample([1.0, 2.0])
                await asyncio.sleep(0.1)
            await asyncio.to_thread(front.wait_healthy, "least_busy", 1)
            await client.sample([1.0, 2.0])
