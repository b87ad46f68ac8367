"""gRPC's framing: however the bytes are cut, the messages are the same; what is too long is refused before it comes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplerd_server.core.errors import MessageTooLargeError
from samplerd_server.transport.envoy.frames import (
    FrameError,
    FrameReader,
    frame,
    parse_timeout,
    trailer_headers,
    whole_message,
)

LIMIT = 1000


def read_all(reader: FrameReader) -> list[bytes]:
    messages = []
    while (found := reader.next_frame()) is not None:
        assert found[0] == 0
        messages.append(found[1])
    return messages


@given(messages=st.lists(st.binary(max_size=50), max_size=8), cuts=st.lists(st.integers(0, 400), max_size=8))
def test_however_a_body_is_cut_its_messages_are_the_same(messages, cuts):
    body = b"".join(map(frame, messages))
    ends = [*sorted(min(cut, len(body)) for cut in cuts), len(body)]
    reader, seen, begin = FrameReader(LIMIT), [], 0
    for end in ends:
        reader.feed(body[begin:end])
        begin = end
        seen += read_all(reader)
    assert seen == messages
    reader.check_ended()


@given(messages=st.lists(st.binary(max_size=50), max_size=8), cut=st.integers(0, 400), flags=st.integers(0, 1))
def test_plain_messages_in_one_chunk_are_given_and_others_are_left(messages, cut, flags):
    """Whatever mixture of both ways is read, no message is lost, doubled or given before another."""
    body = b"".join(frame(message, flags if at == 2 else 0) for at, message in enumerate(messages))
    reader, seen = FrameReader(LIMIT), []
    for chunk in (body[:cut], body[cut:]):
        reader.feed(chunk)
        while True:
            if (plain := reader.next_plain()) is not None:
                seen.append((0, plain))
            elif (found := reader.next_frame()) is not None:
                seen.append(found)
            else:
                break
    assert seen == [(flags if at == 2 else 0, message) for at, message in enumerate(messages)]
    reader.check_ended()
    assert reader.size == 0


def test_many_small_messages_in_one_chunk_are_not_copied_time_and_again():
    count = 200_000  # with a copy of the rest for each message this would take minutes
    reader = FrameReader(LIMIT)
    reader.feed(frame(b"x") * count)
    assert len(read_all(reader)) == count


def test_a_message_beyond_the_limit_is_refused_on_its_announcement():
    reader = FrameReader(LIMIT)
    reader.feed(struct.pack(">BI", 0, LIMIT + 1))
    with pytest.raises(MessageTooLargeError, match=r"1001 bytes is larger than the limit of 1000"):
        reader.next_frame()
    with pytest.raises(MessageTooLargeError):
        whole_message(frame(bytes(LIMIT + 1)), LIMIT)
    reader = FrameReader(LIMIT)
    reader.feed(frame(bytes(LIMIT)))
    assert reader.next_frame() == (0, bytes(LIMIT))


@pytest.mark.parametrize("flags", [1, 0x80, 255])
def test_flags_are_given_with_the_message(flags):
    body = frame(b"abc", flags)
    assert whole_message(body, LIMIT) is None
    reader = FrameReader(LIMIT)
    reader.feed(body)
    assert reader.next_frame() == (flags, b"abc")


@pytest.mark.parametrize("body", [b"\0", b"\0\0\0\0", struct.pack(">BI", 0, 4) + b"abc"])
def test_a_body_that_ends_within_a_message_is_no_body(body):
    assert whole_message(body, LIMIT) is None
    reader = FrameReader(LIMIT)
    reader.feed(body)
    assert reader.next_frame() is None
    with pytest.raises(FrameError, match="within a message"):
        reader.check_ended()


def test_a_body_of_one_message_is_read_at_once():
    assert whole_message(frame(b"abc"), LIMIT) == b"abc"
    assert whole_message(frame(b""), LIMIT) == b""
    assert whole_message(frame(b"abc") + b"\0", LIMIT) is None


@pytest.mark.parametrize(
    ("text", "seconds"), [(b"1S", 1.0), (b"99999999H", 99999999 * 3600.0), (b"250m", 0.25), (b"7u", 7e-6), (b"0n", 0.0)]
)
def test_a_timeout_is_read(text, seconds):
    assert parse_timeout(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", [b"", b"S", b"1", b"-1S", b"1.5S", b"999999999S", b"1s", b"1 S", "\u0661S".encode()])
def test_a_malformed_timeout_is_refused(text):
    with pytest.raises(FrameError):
        parse_timeout(text)


def test_a_message_of_any_text_survives_the_trailers():
    headers = dict(trailer_headers(3, "50% \u2013 ü\n\0", [("a-bin", b"\0\xff"), ("b", "text")]))
    assert headers == {
        b"grpc-status": b"3",
        b"grpc-message": b"50%25 %E2%80%93 %C3%BC%0A%00",
        b"a-bin": b"AP8=",
        b"b": b"text",
    }
