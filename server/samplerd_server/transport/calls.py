"""What every call goes through: it is counted, timed, and its errors become gRPC statuses, in one place.

Rule 1: whatever is not a `SamplerdError` is a bug of ours: logged with its cause, answered INTERNAL with a fixed text.
Rule 2: a cancelled call is re-raised as such; swallowing CancelledError leaks memory inside grpcio. Rule 3: handlers
stay literal ``async def``: grpcio runs anything else in a thread pool.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import grpc

from samplerd_server.errors import Code, InternalError, SamplerdError
from samplerd_server.transport.status import trailers_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from grpc.aio import ServicerContext

    from samplerd_server.metrics import Metrics

__all__ = ["Calls"]

_LOG = logging.getLogger("samplerd.transport")
_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}


class Calls:
    """The calls in flight."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._idle = asyncio.Event()
        self._idle.set()
        self.in_flight = 0
        """Calls that have begun and not ended."""

    @asynccontextmanager
    async def handle(self, rpc: str, context: ServicerContext[bytes, bytes], began: float) -> AsyncIterator[None]:
        """Surround the body of a handler.

        Raises:
            AbortError: grpcio's own, once the status is sent; every handler lets it pass.

        """
        code = Code.OK
        self._metrics.rpc_started(rpc)
        self.in_flight += 1
        self._idle.clear()
        try:
            yield
        except asyncio.CancelledError:
            code = Code.CANCELLED
            raise
        except SamplerdError as error:
            code = error.code
            await _abort(context, error)
        except Exception:  # noqa: BLE001  # whatever it is, it must not reach the client
            _LOG.exception("a handler raised", extra={"values": {"rpc": rpc}})
            code = Code.INTERNAL
            await _abort(context, InternalError())
        finally:
            self.in_flight -= 1
            if self.in_flight == 0:
                self._idle.set()
            self._metrics.rpc_handled(rpc, code, time.monotonic() - began)

    async def wait_idle(self) -> None:
        """Wait until no call is in flight."""
        await self._idle.wait()


async def _abort(context: ServicerContext[bytes, bytes], error: SamplerdError) -> None:
    await context.abort(_STATUS_CODES[error.code], error.message, trailers_of(error))
