"""Request ids: which are taken, which are replaced, and that those made here are never the same."""

from __future__ import annotations

import asyncio

import pytest

from samplerd_server.transport.rpc.arrival import ARRIVED, Arrival, current_request_id
from samplerd_server.transport.rpc.request_id import accept, make_request_id


@pytest.mark.parametrize("sent", ["a", "7f-1", "!", "~" * 128, 'quote"and\\backslash', b"bytes"])
def test_visible_ascii_is_taken_as_it_is(sent):
    assert accept(sent) == (sent if isinstance(sent, str) else sent.decode())


@pytest.mark.parametrize("sent", ["", " ", "two words", "line\n", "a\n", "\x7f", "~" * 129, "\u00e9", b"\xff", "a\tb"])
def test_what_could_spoil_a_line_of_a_log_is_not(sent):
    assert accept(sent) == ""


def test_made_ids_can_be_sent_and_differ():
    made = [make_request_id() for _ in range(1000)]
    assert len(set(made)) == 1000
    assert all(accept(own) == own for own in made)


async def test_a_call_has_one_id():
    async def call(sent: str) -> set[str]:
        ARRIVED.set(Arrival(0.0, sent))
        return {current_request_id(), current_request_id(), await asyncio.create_task(later())}

    async def later() -> str:
        return current_request_id()

    first, second, sent = await asyncio.gather(call(""), call(""), call("mine"))
    assert len(first) == len(second) == 1
    assert first != second
    assert sent == {"mine"}
