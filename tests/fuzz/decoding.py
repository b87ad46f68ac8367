"""Requests by the short cuts (compiled scan, tensors found in place) and by upb alone: the same, or both refused."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.config import LimitsConfig
from samplerd_server.core.errors import SamplerdError
from samplerd_server.sampling.capabilities import capabilities
from samplerd_server.transport.codec import decode_distribution, decode_draft
from samplerd_server.transport.codec.decode import Decoder
from samplerd_server.transport.codec.decode_draft import DraftDecoder
from samplerd_server.transport.codec.scan import scan
from tests.fuzz.wire import damaged, messages

if TYPE_CHECKING:
    from collections.abc import Callable

LIMITS = LimitsConfig(max_rows=64, max_vocab_size=1 << 16)
_CAN = capabilities()
SCANNING = Decoder(limits=LIMITS, capabilities=_CAN, scan=scan)
PARSING = Decoder(limits=LIMITS, capabilities=_CAN)
_MALFORMED = re.compile(r"request: not a \w+")

sample_requests = damaged(messages(pb.SampleRequest.DESCRIPTOR))
draft_requests = damaged(messages(pb.VerifyDraftRequest.DESCRIPTOR))
new_distributions = damaged(messages(pb.CreateDistributionRequest.DESCRIPTOR))


def plain(value: Any) -> Any:
    """What an entity says, as text and numbers: without addresses, functions, and seeds that the server drew."""
    if dataclasses.is_dataclass(value):
        named = {own.name: plain(getattr(value, own.name)) for own in dataclasses.fields(value)}
        return type(value).__name__, {name: own for name, own in named.items() if name not in {"address", "load"}}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, memoryview):
        return bytes(value)
    return (str(value.dtype), value.tolist()) if isinstance(value, np.ndarray) else value


def told(function: Callable[[], Any]) -> str:
    """What a decoder makes of bytes: an entity, or the error; one text for whatever upb cannot parse."""
    seed = "samplerd_server.transport.codec.{}.fresh_seed"
    with mock.patch(seed.format("decode"), return_value=5), mock.patch(seed.format("check_request"), return_value=5):
        try:
            return repr(plain(function()))
        except SamplerdError as error:
            return f"{type(error).__name__}: {error}"


def _agree(short: str, long: str) -> None:
    """Equal; or both refuse what upb cannot parse, since the short cut may meet another fault first."""
    if long.startswith("InvalidRequestError") and _MALFORMED.search(long):
        assert short.startswith(("InvalidRequestError", "NotImplementedFieldError", "PermissionDeniedError")), short
    else:
        assert short == long


def sample_request(data: bytes) -> None:
    """The decoder with the compiled scan, twice because it remembers parameters, against the one without."""
    short = told(lambda: SCANNING.decode_bytes(data))
    assert short == told(lambda: SCANNING.decode_bytes(data))
    _agree(short, told(lambda: PARSING.decode_bytes(data)))


def draft_request(data: bytes) -> None:
    """Drafts whose tensors are found in place."""
    decoder = DraftDecoder(samples=PARSING)
    with mock.patch.object(decode_draft, "_WORTH_LOCATING", 0):
        short = told(lambda: decoder.decode_bytes(data))
    _agree(short, told(lambda: decoder.decode_bytes(data)))


def new_distribution(data: bytes) -> None:
    """Uploads whose tensor is found in place."""

    def decode() -> Any:
        with mock.patch.object(decode_distribution.secrets, "token_hex", return_value="name"):
            return decode_distribution.decode_new(data, PARSING, now=0.0, default_ttl_s=1.0)

    with mock.patch.object(decode_distribution, "_WORTH_LOCATING", 0):
        short = told(decode)
    _agree(short, told(decode))
