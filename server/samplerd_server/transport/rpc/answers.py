"""What becomes of the replies of a stream: each is counted, and its messages are handed to the outbox.

Rule 1: a reply is settled by whoever resolves it, in the middle of a batch: nothing of that waits or raises. Rule 2:
one that cannot be encoded fails alone.
"""

from __future__ import annotations

import logging
import time
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Generic

from samplerd_server.core.errors import OK, Code, InternalError, SamplerdError
from samplerd_server.transport.rpc.stream_messages import Request, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from samplerd_server.metrics.metrics import Metrics
    from samplerd_server.transport.codec.joint_requests import JointRequest
    from samplerd_server.transport.rpc.call import Call
    from samplerd_server.transport.rpc.call_trace import StreamedRequest
    from samplerd_server.transport.rpc.joins import JoinsRequests
    from samplerd_server.transport.rpc.outbox import Outbox
    from samplerd_server.transport.rpc.stream_messages import Messages
    from samplerd_server.transport.rpc.stream_reply import StreamReply

__all__ = ["Answers"]

_LOG = logging.getLogger("samplerd.transport")
_NOT_ENCODED = "a reply of a stream could not be encoded"


class Answers(Generic[Request, Result]):
    """The answers of one stream."""

    def __init__(
        self,
        call: Call,
        messages: Messages[Request, Result],
        outbox: Outbox,
        *,
        metrics: Metrics,
        log_refusal: Callable[[str, SamplerdError, Any], None] | None,
    ) -> None:
        self._call = call
        self._messages = messages
        self._outbox = outbox
        self._metrics = metrics
        self._log_refusal = log_refusal
        self._own_context = copy_context()
        """In which errors are logged and encoded: a batch settles its replies in the context of another call."""
        self.pending: set[StreamReply[Any]] = set()
        """Replies that are not done."""

    def settle(self, reply: StreamReply[Request]) -> None:
        """Pass a reply that is done on to the writer."""
        self.pending.discard(reply)
        if reply.cancelled():
            self._count(Code.CANCELLED, reply.began)
            if reply.trace is not None:
                reply.trace.end(reply.request.id, Code.CANCELLED)
            return
        request_id, error = reply.request.id, reply.exception()
        if error is None:
            error = self._send(reply, request_id)
        if error is None:
            self._count(OK, reply.began)
        else:
            known = error if isinstance(error, SamplerdError) else InternalError()
            self._own_context.run(self.fail, request_id, known, reply.began, reply.trace)

    def _send(self, reply: StreamReply[Request], request_id: int) -> BaseException | None:
        """Hand the messages of a reply to the outbox; returns why that could not be."""
        try:
            messages, size, writing = self._messages.encode(reply.request, reply.result())
            self._outbox.hold(size, writing)
        except SamplerdError as refusal:
            return refusal
        except Exception as bug:  # noqa: BLE001  # a bug fails this request and not the stream
            _LOG.exception(_NOT_ENCODED)
            return bug
        if not isinstance(messages, tuple):
            messages = self._encode_later(request_id, messages)
        written = None if reply.trace is None else partial(reply.trace.end, request_id, OK)
        self._outbox.add(messages, size, written=written)
        return None

    def _encode_later(self, request_id: int, messages: Iterable[bytes]) -> Iterator[bytes]:
        """Encode the messages of a reply when they are written."""
        try:
            yield from messages
        except Exception:  # noqa: BLE001  # a bug fails this request and not the stream
            _LOG.exception(_NOT_ENCODED)
            yield self._messages.encode_error(request_id, InternalError(), self._call.request_id)

    def settle_joint(self, joins: JoinsRequests, reply: StreamReply[Any]) -> None:
        """Pass the replies to a joint request that is done on to the writer."""
        self.pending.discard(reply)
        joint: JointRequest = reply.request
        error = reply.exception()
        if reply.cancelled():
            self._count(Code.CANCELLED, reply.began, len(joint.ids))
            return
        if error is None:
            try:
                messages, size, writing = joins.encode(joint, reply.result())
                self._outbox.hold(size, writing)
            except SamplerdError as refusal:
                error = refusal
            except Exception as bug:  # noqa: BLE001  # as above
                _LOG.exception(_NOT_ENCODED)
                error = bug
            else:
                self._outbox.add(messages, size, replies=len(joint.ids))
                self._count(OK, reply.began, len(joint.ids))
                return
        known = error if isinstance(error, SamplerdError) else InternalError()
        for own_id in joint.ids:
            self._own_context.run(self.fail, own_id, known, reply.began, None)

    def fail(self, request_id: int, error: SamplerdError, began: float, trace: StreamedRequest | None) -> None:
        """Answer one request with an error."""
        if self._log_refusal is not None:
            self._log_refusal(self._call.rpc, error, self._call.context)
        message = self._messages.encode_error(request_id, error, self._call.request_id)
        self._outbox.add((message,), written=None if trace is None else partial(trace.end, request_id, error.code))
        self._count(error.code, began)

    def _count(self, code: Code, began: float, requests: int = 1) -> None:
        self._metrics.requests_answered(self._call.rpc, code, time.monotonic() - began, requests)
