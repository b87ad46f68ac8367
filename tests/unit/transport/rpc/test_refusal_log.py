"""The log of refusals: ten lines a second for each reason, then one that counts what was left out."""

from __future__ import annotations

import asyncio

import pytest

from samplerd_server.metrics.metrics import Metrics
from samplerd_server.process import log
from samplerd_server.transport.rpc.refusal_log import RefusalLog

LEFT_OUT = "calls were refused that have no line of their own"


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """Lines go through logging, where the test sees them."""
    monkeypatch.setattr(log, "_background", None)


def told(caplog, message: str) -> list[dict]:
    return [record.values for record in caplog.records if record.getMessage() == message]


def test_lines_are_bounded_for_each_reason(caplog):
    now = 100.0
    refusals = RefusalLog("samplerd.audit", lambda: now)
    for _ in range(1000):
        refusals.refused("permission_denied", method="/a.B/C")
    refusals.refused("unauthenticated", method="/a.B/C")
    lines = told(caplog, "a call was refused")
    assert [line["reason"] for line in lines] == ["permission_denied"] * 10 + ["unauthenticated"]
    assert not told(caplog, LEFT_OUT)
    now = 101.0
    refusals.refused("permission_denied", method="/a.B/C")
    assert told(caplog, LEFT_OUT) == [{"reason": "permission_denied", "left_out": 990}]
    refusals.close()
    assert len(told(caplog, LEFT_OUT)) == 1
    assert len(told(caplog, "a call was refused")) == 12


async def test_what_was_left_out_is_told_though_nothing_follows(caplog):
    refusals = RefusalLog("samplerd.transport")
    for _ in range(15):
        refusals.refused("queue_rows", method="/a.B/C")
    async with asyncio.timeout(30):
        while not told(caplog, LEFT_OUT):  # noqa: ASYNC110  # a log has no event to wait for
            await asyncio.sleep(0.05)
    assert told(caplog, LEFT_OUT) == [{"reason": "queue_rows", "left_out": 5}]


def test_the_end_tells_it_too(caplog):
    refusals = RefusalLog("samplerd.transport", lambda: 1.0)
    for _ in range(11):
        refusals.refused("queue_rows")
    refusals.close()
    assert told(caplog, LEFT_OUT) == [{"reason": "queue_rows", "left_out": 1}]


def test_labels_of_identities_are_bounded():
    metrics = Metrics()
    labels = {metrics.identity_label(f"name-{at}") for at in range(1000)}
    assert len(labels) == 65
    assert metrics.identity_label("name-3") == "name-3"
    assert metrics.identity_label("name-999") == "other"
