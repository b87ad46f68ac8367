"""Requests on their way into the queue: a cancelled one gives its place back."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import numpy as np
import pytest

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
