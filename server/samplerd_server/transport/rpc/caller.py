"""Who calls: the identity of the call that is being handled, which its task carries."""

from __future__ import annotations

from contextvars import ContextVar

__all__ = ["CALLER"]

CALLER: ContextVar[str] = ContextVar("caller", default="")
"""Name of the token or common name of the certificate; "" = the caller has neither, or a token without a name."""
