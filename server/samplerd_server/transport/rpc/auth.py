"""Bearer tokens: a caller without one is refused before its message is read.

Rule 1: without tokens in the settings nothing here runs. Rule 2: tokens are compared in constant time.
"""

from __future__ import annotations

import hmac
import time
from typing import TYPE_CHECKING, Any

import grpc

from samplerd_server.core.errors import UnauthenticatedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grpc.aio import ServicerContext

    from samplerd_server.transport.rpc.observer import RpcObserver

__all__ = ["Authenticated"]

_SCHEME = "bearer "


class Authenticated(grpc.GenericRpcHandler):
    """Handlers that only callers with a token reach. `observer` counts who is refused; None = nobody does."""

    depends_on_caller = True
    """What `service` gives must not be remembered for the next caller."""

    def __init__(self, inner: grpc.GenericRpcHandler, *, tokens: Sequence[bytes], observer: RpcObserver | None) -> None:
        self._inner = inner
        self._tokens = tuple(tokens)
        self._observer = observer

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Give the handler of a method, or one that refuses the caller."""
        handler = self._inner.service(handler_call_details)
        if handler is None:
            return None
        problem = self._check(handler_call_details)
        return handler if problem is None else self._refusal(handler_call_details.method, problem)

    def _check(self, details: grpc.HandlerCallDetails) -> str | None:
        sent = [value for name, value in details.invocation_metadata or () if name == "authorization"]
        if len(sent) != 1 or not isinstance(sent[0], str) or not sent[0].lower().startswith(_SCHEME):
            return "no token: send the metadata authorization: Bearer TOKEN"
        token = sent[0][len(_SCHEME) :].strip().encode()
        # All are compared, whichever fits: the time tells nothing.
        fits = [hmac.compare_digest(token, allowed) for allowed in self._tokens]
        return None if any(fits) else "the token is not one of this server's"

    def _refusal(self, method: str, problem: str) -> grpc.RpcMethodHandler[Any, Any]:
        rpc = method.rpartition("/")[2]

        # A stream even where the method is none: so no message is read from a stranger.
        async def refuse(_messages: object, context: ServicerContext[bytes, bytes]) -> None:
            if self._observer is None:
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, problem)
            async with self._observer.handle(rpc, context, time.monotonic()):
                raise UnauthenticatedError(problem)

        return grpc.stream_stream_rpc_method_handler(refuse)
