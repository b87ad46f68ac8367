"""Requests on their way into the queue: a cancelled one gives its place back."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import numpy as np
import pytest

from samplerd_server.core.errors import OverloadedError
from samplerd_server.metrics.metrics import Metrics
from samplerd_server.transport.rpc.queue_entry import QueueEntry
from samplerd_server.transport.rpc.submitter import Submitter
from tests.support.requests import request

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_queue_is_swept_for_a_cancelled_request_and_for_no_other():
    tickets, swept = [], []
    entry = QueueEntry(
        SimpleNamespace(check=lambda *_: None),
        SimpleNamespace(enqueue=tickets.append),
        SimpleNamespace(soon=lambda: swept.append(len(swept))),
        Metrics(),
        batch_rows=64,
    )
    submitter = Submitter(entry, asyncio.get_running_loop())
    one = request(np.zeros((1, 4)))
    replies = [submitter.submit(one, 0.0, 1.0, "a"), submitter.submit_part(one, 1.0, "a", is_first=False)]
    for ticket in tickets:
        ticket.reply.set_result("drawn")
    await asyncio.gather(*replies)
    await asyncio.sleep(0)
    assert swept == []
    cancelled = [submitter.submit(one, 0.0, 1.0, "a"), submitter.submit_draft(one, 0.0, 1.0, "a")]
    for reply in cancelled:
        reply.cancel()
    await asyncio.gather(*cancelled, return_exceptions=True)
    await asyncio.sleep(0)
    assert swept == [0, 1]


class Admission:
    def __init__(self) -> None:
        self.waiting_rows = 0
        self.refuses = False

    def check(self, ticket, now) -> None:
        if self.refuses:
            raise OverloadedError("full", reason="queue_rows", retry_after_s=1.0)


async def test_several_requests_are_queued_as_one_if_there_is_room_and_are_counted_only_then():
    admission, tickets, metrics = Admission(), [], Metrics()
    entry = QueueEntry(admission, SimpleNamespace(enqueue=tickets.append), SimpleNamespace(), metrics, batch_rows=10)
    submitter = Submitter(entry, asyncio.get_running_loop())

    def submit() -> bool:
        reply = asyncio.get_running_loop().create_future()
        return submitter.submit_joint_to(reply, request(np.zeros((4, 8))), 0.0, 1.0, "a", requests=4)

    admission.waiting_rows = 7
    assert not submit()
    admission.waiting_rows, admission.refuses = 0, True
    assert not submit()
    assert metrics.shed.total() == metrics.source_rows.total() == len(tickets) == 0
    admission.waiting_rows, admission.refuses = 6, False
    assert submit()
    assert [(own.rows, own.requests, own.connection) for own in tickets] == [(4, 4, "a")]
    assert metrics.source_rows.value("logits") == 4


async def test_a_door_queues_each_by_itself():
    submitter = Submitter(SimpleNamespace(), asyncio.get_running_loop())
    reply = asyncio.get_running_loop().create_future()
    assert not submitter.submit_joint_to(reply, request(np.zeros((4, 8))), 0.0, 1.0, "a", requests=4)
