"""Request ids: the metadata or HTTP header ``x-request-id``, by which a call is found in logs, traces and errors.

Rule 1: an id that a client sends is used as it is, if it can stand in any log line as it is: 1 to 128 visible ASCII
characters. Rule 2: any other is replaced by one that is made here, so that no id fails a call. Rule 3: an id is made
only when something tells it: a prefix of this process, which is random, and a number.
"""

from __future__ import annotations

import re
import secrets
from itertools import count

__all__ = ["REQUEST_ID", "accept", "make_request_id"]

REQUEST_ID = "x-request-id"
"""The key of the metadata, and the name of the HTTP header."""
_ALLOWED = re.compile(r"[!-~]{1,128}")
_PREFIX = secrets.token_hex(6)
_NUMBERS = count(1)


def accept(sent: str | bytes) -> str:
    """Give an id that a client sent; empty if it cannot be used."""
    text = sent.decode("latin-1") if isinstance(sent, bytes) else sent
    return text if _ALLOWED.fullmatch(text) else ""


def make_request_id() -> str:
    """Make an id that no other call of any process has."""
    return f"{_PREFIX}-{next(_NUMBERS):x}"
