"""Who may call what: the identity of each caller, and the methods that the policy allows it.

Rule 1: without tokens, a policy or certificates of clients nothing here runs. Rule 2: a caller without a valid token is
refused before its message is read. Rule 3: tokens are compared by their digests, all of them, in constant time. Rule 4:
with a policy, what is not allowed is refused. On the event loop.
"""

from __future__ import annotations

import hashlib
import hmac
import inspect
import time
from typing import TYPE_CHECKING, Any

import grpc

from samplerd_server.config.credentials import ANONYMOUS, EVERYBODY, is_identity, read_tokens
from samplerd_server.config.watched_file import WatchedFile
from samplerd_server.core.errors import PermissionDeniedError, SamplerdError, UnauthenticatedError
from samplerd_server.transport.codec.status import trailers_of
from samplerd_server.transport.rpc.arrival import current_request_id
from samplerd_server.transport.rpc.caller import CALLER
from samplerd_server.transport.rpc.policy import read_checked_policy
from samplerd_server.transport.rpc.refusal_log import RefusalLog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from grpc.aio import ServicerContext

    from samplerd_server.config import SecurityConfig
    from samplerd_server.metrics.metrics import Metrics
    from samplerd_server.transport.rpc.observer import RpcObserver

__all__ = ["Access", "refusals_of"]

_SCHEME = "bearer "
_NOT_SENT = "no token: send the metadata authorization: Bearer TOKEN"
_NOT_KNOWN = "the token is not one of this server's"


def refusals_of(config: SecurityConfig) -> tuple[str, ...]:
    """Name the status codes with which callers are refused for who they are."""
    codes = {"UNAUTHENTICATED": config.token_file, "PERMISSION_DENIED": config.policy_file}
    return tuple(code for code, is_set in codes.items() if is_set)


class Access:
    """Decides about each call."""

    def __init__(self, config: SecurityConfig, metrics: Metrics, methods: frozenset[str]) -> None:
        """Read the tokens and the policy; others than these methods in it are told in the log.

        Raises:
            ConfigError: a file cannot be used.

        """
        self._tokens = WatchedFile(config.token_file, read_tokens)
        self._policy = WatchedFile(config.policy_file, lambda path: read_checked_policy(path, methods))
        self._has_tokens = bool(config.token_file)
        self._metrics = metrics
        self.refusals = RefusalLog("samplerd.audit")
        """The log of the calls that were refused for who the caller is."""
        self._open: set[str] = set()
        self.is_on = bool(config.token_file or config.client_ca)
        """Whether callers are told apart at all."""

    def guard(
        self, inner: grpc.GenericRpcHandler, observer: RpcObserver | None, open_to_all: frozenset[str] = frozenset()
    ) -> grpc.GenericRpcHandler:
        """Give handlers for those who may call.

        Args:
            inner: the handlers.
            observer: counts the calls that are refused; None = they are only counted by identity.
            open_to_all: methods that need no token unless the policy says what `anonymous` may call.

        """
        self._open |= open_to_all
        return _Guarded(self, inner, observer) if self.is_on else inner

    def is_open(self, method: str) -> bool:
        """Whether a method may be called without a token or certificate."""
        policy = self._policy.get()
        if policy is None or ANONYMOUS not in policy:
            return method in self._open
        return _is_in(method, policy[ANONYMOUS])

    def admit(self, method: str, details: grpc.HandlerCallDetails) -> bool:
        """Decide by the token, and remember whose it is; returns whether the certificate is left to decide by.

        Raises:
            UnauthenticatedError: there is no token, or a wrong one.
            PermissionDeniedError: the policy does not allow its owner to call the method.

        """
        CALLER.set("")
        if self.is_open(method):
            return False
        if not self._has_tokens:
            return True
        name = self._by_token(details)
        CALLER.set(name)
        self.check(method, name)
        return False

    def _by_token(self, details: grpc.HandlerCallDetails) -> str:
        sent = [value for name, value in details.invocation_metadata or () if name == "authorization"]
        if len(sent) != 1 or not isinstance(sent[0], str) or not sent[0].lower().startswith(_SCHEME):
            raise UnauthenticatedError(_NOT_SENT)
        digest = hashlib.sha256(sent[0][len(_SCHEME) :].strip().encode()).digest()
        # All digests are compared even after a match, so that the time tells nothing.
        found = [token.name for token in self._tokens.get() if hmac.compare_digest(digest, token.digest)]
        if not found:
            raise UnauthenticatedError(_NOT_KNOWN)
        return found[0]

    def admit_certificate(self, method: str, context: ServicerContext[Any, Any]) -> None:
        """Decide by the certificate of the connection, and remember its common name.

        Raises:
            PermissionDeniedError: the policy does not allow its owner to call the method.

        """
        first = next(iter(context.auth_context().get("x509_common_name", ())), b"")
        name = bytes(first).decode("utf-8", "replace")
        name = name if is_identity(name) else ""
        CALLER.set(name)
        self.check(method, name)

    def check(self, method: str, name: str) -> None:
        """Hold a call against the policy.

        Raises:
            PermissionDeniedError: it is not allowed.

        """
        policy = self._policy.get()
        if (
            policy is None
            or _is_in(method, policy.get(EVERYBODY, ()))
            or (name and _is_in(method, policy.get(name, ())))
        ):
            return
        raise PermissionDeniedError(f"{method}: this caller may not call it")

    def refused(self, method: str, error: SamplerdError, context: ServicerContext[Any, Any]) -> None:
        """Count and log a call that was refused."""
        name = CALLER.get() or ANONYMOUS
        self._metrics.identity_refusals.add(1, self._metrics.identity_label(name), error.code.name)
        self.refusals.refused(
            error.reason.lower(),
            method=method,
            code=error.code.name,
            identity=name,
            peer=context.peer(),
            request_id=current_request_id(),
            why=error.message,
        )


def _is_in(method: str, allowed: tuple[str, ...]) -> bool:
    return method in allowed or f"{method.rpartition('/')[0]}/*" in allowed


class _Guarded(grpc.GenericRpcHandler):
    """Handlers for callers who may call."""

    depends_on_caller = True
    """The result of `service` depends on the caller, so it must not be cached."""

    def __init__(self, access: Access, inner: grpc.GenericRpcHandler, observer: RpcObserver | None) -> None:
        self._access = access
        self._inner = inner
        self._observer = observer

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Give the handler of a method, or one that refuses the caller."""
        handler = self._inner.service(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        try:
            is_left = self._access.admit(method, handler_call_details)
        except SamplerdError as error:
            return self._refusal(method, error)
        return self._by_certificate(method, handler) if is_left else handler

    def _refusal(self, method: str, error: SamplerdError) -> grpc.RpcMethodHandler[Any, Any]:
        # A stream handler even for a unary method: it reads no message from a caller without a token.
        async def refuse(_messages: object, context: ServicerContext[Any, Any]) -> None:
            await self._refuse(method, error, context)

        return grpc.stream_stream_rpc_method_handler(refuse)

    async def _refuse(self, method: str, error: SamplerdError, context: ServicerContext[Any, Any]) -> None:
        """End a call with the error, counted and logged.

        Raises:
            AbortError: of the transport, always.

        """
        self._access.refused(method, error, context)
        if self._observer is None:
            code = grpc.StatusCode[error.code.name]
            await context.abort(code, error.message, trailers_of(error, current_request_id()))
        async with self._observer.handle(method.rpartition("/")[2], context, time.monotonic()):
            raise error

    def _by_certificate(self, method: str, handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
        """Give a handler that first looks at the certificate, which only the context of a call has."""
        kind, inner = _parts_of(handler)
        if inspect.isasyncgenfunction(inner):

            async def generate(message: Any, context: ServicerContext[Any, Any]) -> AsyncIterator[Any]:
                await self._hold(method, context)
                async for reply in inner(message, context):
                    yield reply

            return kind(generate, handler.request_deserializer, handler.response_serializer)

        async def answer(message: Any, context: ServicerContext[Any, Any]) -> Any:
            await self._hold(method, context)
            return await inner(message, context)

        return kind(answer, handler.request_deserializer, handler.response_serializer)

    async def _hold(self, method: str, context: ServicerContext[Any, Any]) -> None:
        try:
            self._access.admit_certificate(method, context)
        except SamplerdError as error:
            await self._refuse(method, error, context)


def _parts_of(
    handler: grpc.RpcMethodHandler[Any, Any],
) -> tuple[Callable[..., grpc.RpcMethodHandler[Any, Any]], Callable[..., Any]]:
    """Give what makes a handler of this kind, and the function in it."""
    kinds: Mapping[str, Callable[..., grpc.RpcMethodHandler[Any, Any]]] = {
        "unary_unary": grpc.unary_unary_rpc_method_handler,
        "unary_stream": grpc.unary_stream_rpc_method_handler,
        "stream_unary": grpc.stream_unary_rpc_method_handler,
        "stream_stream": grpc.stream_stream_rpc_method_handler,
    }
    for name, kind in kinds.items():
        if (inner := getattr(handler, name)) is not None:
            return kind, inner
    raise AssertionError("a handler without a function. This is a bug.")
