"""The records of calls: a line of the access log, or a span, for a call that has ended: what it asked for, and when.

Rule 1: off unless it is asked for, and then no part of a call waits for whoever reads it. Rule 2: its values hold
nothing that a client chose, except its request id and its identity, which are checked. On the event loop.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

from samplerd_server.config.credentials import ANONYMOUS
from samplerd_server.core.errors import OK
from samplerd_server.process.log import access_event
from samplerd_server.transport.rpc.arrival import ARRIVED, Arrival
from samplerd_server.transport.rpc.call_record import CallRecord
from samplerd_server.transport.rpc.call_trace import CallTrace
from samplerd_server.transport.rpc.caller import CALLER

if TYPE_CHECKING:
    from collections.abc import Callable

    from grpc.aio import ServicerContext

    from samplerd_server.config import ServerConfig
    from samplerd_server.core.errors import Code
    from samplerd_server.process.tracing import Parent, Tracing

    TraceContext = Callable[[], tuple[str, str]]

__all__ = ["Recorder"]

_MS = 1e3


class Recorder:
    """Makes the records of calls, and writes them once the calls have ended."""

    def __init__(self, config: ServerConfig, tracing: Tracing | None = None) -> None:
        self._log = config.log
        self._tracing = tracing
        self._pid = os.getpid()
        self._transport = config.transport.transport

    @property
    def is_on(self) -> bool:
        """Whether any call is recorded."""
        return self._log.access or self._tracing is not None

    def begin(self, context: ServicerContext[bytes, bytes]) -> CallRecord | None:
        """Give the record of the call of this task; None = it needs none."""
        arrival = ARRIVED.get(None)
        if arrival is None:
            return None
        tracing = self._tracing
        parent = None if tracing is None else self._decide(tracing, context)
        if parent is None and not self._log.access:
            return None
        arrival.record = record = CallRecord(context)
        if tracing is not None and parent is not None:
            record.trace = CallTrace(tracing, parent, arrival.time)
        return record

    @staticmethod
    def _decide(tracing: Tracing, context: ServicerContext[bytes, bytes]) -> Parent | None:
        own: TraceContext | None = getattr(context, "trace_context", None)
        if own is not None:
            return tracing.decide(*own())
        traceparent = tracestate = ""
        for key, value in context.invocation_metadata() or ():
            if key == "traceparent":
                traceparent = str(value)
            elif key == "tracestate":
                tracestate += f",{value!s}"  # it may be sent in parts
        return tracing.decide(traceparent, tracestate)

    def end(self, arrival: Arrival, path: str, code: Code, seconds: float) -> None:
        """Write the record of a call that has ended.

        Args:
            arrival: the call's.
            path: that of the RPC: /SERVICE/METHOD.
            code: its status.
            seconds: how long it took, from its arrival at the transport.

        """
        # Contexts know their arrival: in such a circle only the garbage collector would find the call.
        record, arrival.record = arrival.record, None
        if record is None:
            return
        trace_id = "" if record.trace is None else self._trace(arrival, record, record.trace, path, code)
        if not self._log.access or not self._is_chosen(code):
            return
        context = record.context
        record.settle()
        values: dict[str, object] = {
            "request_id": arrival.request_id,
            **({"trace_id": trace_id} if trace_id else {}),
            "method": path,
            "code": code.name,
            "caller": CALLER.get() or ANONYMOUS,
            "peer": context.peer(),
            "transport": self._transport,
            "protocol": getattr(context, "protocol", "grpc"),
            "requests": record.requests,
            "rows": record.rows,
            "samples": record.samples,
            "bytes_in": record.bytes_in,
            "bytes_out": record.bytes_out,
            "wait_ms": round(record.wait_s * _MS, 3),
            "compute_ms": round(record.compute_s * _MS, 3),
            "total_ms": round(seconds * _MS, 3),
            "pid": self._pid,
        }
        access_event(values)

    def _trace(self, arrival: Arrival, record: CallRecord, trace: CallTrace, path: str, code: Code) -> str:
        """Make the span of a call; returns the id of its trace."""
        attributes = {
            "samplerd.request_id": arrival.request_id,
            "samplerd.protocol": getattr(record.context, "protocol", "grpc"),
            "samplerd.requests": record.requests,
            "samplerd.rows": record.rows,
            "samplerd.samples": record.samples,
        }
        return trace.end(path, attributes, code)

    def _is_chosen(self, code: Code) -> bool:
        if code is not OK and self._log.access_errors == "all":
            return True
        share = self._log.access_sample
        return share >= 1 or random.random() < share  # noqa: S311  # no secret
