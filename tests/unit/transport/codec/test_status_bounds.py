"""A status fits into the headers that carry it, whatever a client sent."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from samplerd_server.core import errors
from samplerd_server.transport.codec.status import trailers_of

_HEADERS_BYTES = 8 << 10
"""What clients of gRPC take by default; past it a call fails as RESOURCE_EXHAUSTED."""


@pytest.mark.parametrize("text", ["x" * 1_000_000, "é" * 1_000_000, "\U0001f600" * 1_000_000, "\ud800" * 1_000_000])
@pytest.mark.parametrize(
    "make",
    [
        lambda text: errors.InvalidRequestError(text, text),
        errors.NotImplementedFieldError,
        errors.NotFoundError,
        errors.AlreadyExistsError,
        errors.UnauthenticatedError,
        errors.PermissionDeniedError,
        lambda text: errors.MessageTooLargeError(text, 1),
        lambda text: errors.OverloadedError(text, reason="QUEUE_ROWS", retry_after_s=1),
    ],
)
def test_no_status_outgrows_its_headers(make, text):
    error = make(text)
    # The binary trailer is sent as base64, the text with three characters for each byte that is not ASCII.
    size = len(quote(error.message))
    size += sum(len(name) + len(value) * 4 // 3 for name, value in trailers_of(error, "~" * 128))
    assert 512 < size < _HEADERS_BYTES * 5 // 8
    assert error.message.endswith("...")


def test_short_texts_are_whole():
    assert errors.cut("é" * 256) == "é" * 256
    assert errors.cut("é" * 257) == "é" * 256 + "..."
    assert errors.cut("x" * 511 + "é") == "x" * 511 + "..."
