"""How many bytes of replies may wait to be read, in all and for one caller."""

from __future__ import annotations

from contextlib import suppress

import pytest

from samplerd_server.core.errors import OverloadedError, ReplyTooLargeError
from samplerd_server.metrics.metrics import Metrics
from samplerd_server.transport.rpc.reply_bytes import LEAST_BYTES, ReplyBytes


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def replies(metrics):
    return ReplyBytes(1000, metrics.shed)


def test_a_caller_holds_a_quarter_and_no_more(replies, metrics):
    for _ in range(5):
        replies.take("a", 50)
    with pytest.raises(OverloadedError, match="250 bytes of your replies wait to be read, 250 are the most") as caught:
        replies.take("a", 1)
    assert (caught.value.reason, caught.value.retry_after_s) == ("reply_bytes", 1.0)
    replies.take("b", 250)
    assert replies.bytes == 500
    assert metrics.shed.value("reply_bytes") == 1
    replies.give("a", 50)
    replies.take("a", 50)


def test_one_reply_may_be_as_large_as_the_bound(replies):
    replies.take("a", 1000)
    with pytest.raises(OverloadedError, match="replies of 1000 bytes wait to be read, 1000 are the most"):
        replies.take("b", 1)
    replies.give("a", 1000)
    replies.take("b", 1)
    with pytest.raises(OverloadedError, match="replies of 1 bytes"):
        replies.take("a", 1000)


def test_a_reply_beyond_the_bound_says_so(replies, metrics):
    with pytest.raises(
        ReplyTooLargeError,
        match="takes 1001 bytes of memory until it is read, and --reply-bytes lets 1000 wait",
    ):
        replies.take("a", 1001)
    assert (replies.bytes, metrics.shed.value("reply_bytes")) == (0, 1)


def test_small_replies_that_are_too_many_together_may_come_later(replies):
    """A stream counts its small replies together: none of them is too large."""
    with pytest.raises(OverloadedError, match="wait to be read"):
        replies.take("a", 1001, reply=501)


def test_what_was_given_back_leaves_nothing(replies):
    for caller in "abcd":
        replies.take(caller, 100)
    for caller in "abcd":
        replies.give(caller, 100)
    assert (replies.bytes, replies._callers) == (0, {})


def test_a_large_reply_is_held_within_a_block_however_it_ends(metrics):
    replies = ReplyBytes(LEAST_BYTES, metrics.shed)
    with replies.hold("a", LEAST_BYTES - 1):
        assert replies.bytes == 0
    with suppress(ZeroDivisionError), replies.hold("a", LEAST_BYTES):
        assert replies.bytes == LEAST_BYTES
        with pytest.raises(OverloadedError):
            replies.hold("b", LEAST_BYTES).__enter__()
        raise ZeroDivisionError
    assert replies.bytes == 0
