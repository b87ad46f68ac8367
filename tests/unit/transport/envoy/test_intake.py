from __future__ import annotations

import asyncio

import pytest

from samplerd_server.core.errors import Code, OverloadedError
from samplerd_server.metrics.metrics import Metrics
from samplerd_server.transport.codec.status import trailers_of
from samplerd_server.transport.envoy.intake import Intake


class Caller:
    def __init__(self) -> None:
        self.told: list[tuple[int, dict[str, object]]] = []

    async def fail(self, error) -> None:
        self.told.append((error.code, dict(trailers_of(error, "x"))))


class World:
    def __init__(self, max_bytes: int) -> None:
        self.now = 0.0
        self.metrics = Metrics(())
        self.intake = Intake(max_bytes, self.metrics.shed, lambda: self.now)

    def refused(self) -> float:
        return self.metrics.shed.value("incoming_bytes")


def test_bytes_count_until_the_message_is_whole():
    world, caller = World(100), Caller()
    world.intake.add(caller, 60)
    world.intake.add(caller, 40)
    assert world.intake.bytes == 100
    world.intake.keep(caller, 7)
    assert world.intake.bytes == 7
    world.intake.keep(caller, 0)
    world.intake.keep(caller, 0)
    assert world.intake.bytes == 0


def test_beyond_the_bound_the_sender_is_refused_and_counts_no_more():
    world, first, second = World(100), Caller(), Caller()
    world.intake.add(first, 60)
    world.intake.add(second, 40)
    with pytest.raises(OverloadedError) as caught:
        world.intake.add(second, 1)
    assert caught.value.retry_after_s > 0
    assert (world.intake.bytes, world.refused(), first.told) == (60, 1, [])


@pytest.mark.asyncio
async def test_those_that_have_stalled_make_room_for_those_that_send():
    world = World(100)
    stalled = [Caller() for _ in range(2)]
    for caller in stalled:
        world.intake.add(caller, 50)
    world.now = 0.9
    slow = Caller()
    with pytest.raises(OverloadedError):
        world.intake.add(slow, 10)
    world.now = 1.0
    world.intake.add(stalled[1], 0)
    sender = Caller()
    world.intake.add(sender, 50)
    await asyncio.sleep(0)
    [(code, trailers)] = stalled[0].told
    assert code == Code.RESOURCE_EXHAUSTED
    assert "grpc-retry-pushback-ms" in trailers
    assert stalled[1].told == sender.told == []
    assert (world.intake.bytes, world.refused()) == (100, 2)
    with pytest.raises(OverloadedError):
        world.intake.add(sender, 1)
    assert world.intake.bytes == 50
