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
    """Handlers for callers with a token.

    `observer` counts the calls that are refused; None = they are not counted. `exempt` are methods that need no token.
    """

    depends_on_caller = True
    """The result of `service` depends on the caller's token, so it must not be cached."""

    def __init__(
        self,
        inner: grpc.GenericRpcHandler,
        *,
        tokens: Sequence[bytes],
        observer: RpcObserver | None,
        exempt: frozenset[str] = frozenset(),
    ) -> None:
        self._inner = inner
        self._tokens = tuple(tokens)
        self._observer = observer
        self._exempt = exempt

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Give the handler of a method, or one that refuses the caller."""
        handler = self._inner.service(handler_call_details)
        if handler is None or handler_call_details.method in self._exempt:
            return handler
        problem = self._check(handler_call_details)
        return handler if problem is None else self._refusal(handler_call_details.method, problem)

    def _check(self, details: grpc.HandlerCallDetails) -> str | None:
        sent = [value for name, value in details.invocation_metadata or () if name == "authorization"]
        if len(sent) != 1 or not isinstance(sent[0], str) or not sent[0].lower().startswith(_SCHEME):
            return "no token: send the metadata authorization: Bearer TOKEN"
        token = sent[0][len(_SCHEME) :].strip().encode()
        # All tokens are compared even after a match, so that the time tells nothing.
        fits = [hmac.compare_digest(token, allowed) for allowed in self._tokens]
        return None if any(fits) else "the token is not one of this server's"

    def _refusal(self, method: str, problem: str) -> grpc.RpcMethodHandler[Any, Any]:
        rpc = method.rpartition("/")[2]

        # A stream handler even for a unary method: it reads no message from a caller without a token.
        async def refuse(_messages: object, context: ServicerContext[bytes, bytes]) -> None:
            if self._observer is None:
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, problem)
            async with self._observer.handle(rpc, context, time.monotonic()):
                raise UnauthenticatedError(problem)

        return grpc.stream_stream_rpc_method_handler(refuse)
