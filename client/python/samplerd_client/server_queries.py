"""The client's questions to a server: what it is, and whether it is healthy and ready."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from google.protobuf import wrappers_pb2

from samplerd.v1 import sampler_pb2 as pb
from samplerd_client.errors import DeadlineError, NotImplementedFieldError, SamplerdError
from samplerd_client.info import Health, ServerInfo, decode_info
from samplerd_client.retry import Deadline, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ServerQueries"]

_T = TypeVar("_T")

_READY_POLL_S = 0.05
_NO_RETRY = RetryPolicy(max_attempts=1)


class ServerQueries:
    """Questions to a server, as methods of the client, which makes the calls."""

    async def server_info(self, *, timeout_s: float | None = None) -> ServerInfo:
        """Return the server's version, device, capabilities and limits."""
        response = await self._call("GetServerInfo", b"", pb.GetServerInfoResponse.FromString, timeout_s)
        return decode_info(response)

    async def health(self, service: str = "", *, timeout_s: float | None = None) -> Health:
        """Return the health of the server, or of one of its services. Not tried again after a failure."""
        return await self._health(service, timeout_s, wait_for_ready=False)

    async def wait_ready(self, timeout_s: float | None = None) -> None:
        """Return once the server can be reached and is serving.

        Raises:
            DeadlineError: it was not within `timeout_s` (None = the client's).

        """
        deadline = self._deadline(timeout_s)
        while True:
            try:
                if await self._health("", deadline.remaining_s(), wait_for_ready=True) is Health.SERVING:
                    return
            except NotImplementedFieldError:
                return  # there is no health service, but there is a server
            except SamplerdError as error:
                if not error.is_retryable:
                    raise
            if not deadline.allows(_READY_POLL_S):
                raise DeadlineError(f"the server at {self.target} was not ready in time")
            await deadline.clock.sleep(_READY_POLL_S)

    async def _health(self, service: str, timeout_s: float | None, *, wait_for_ready: bool) -> Health:
        # The messages of grpc.health.v1 are a string and an enum, each field 1: on the wire they are these wrappers,
        # which spares the client a dependency.
        request = wrappers_pb2.StringValue(value=service).SerializeToString()
        response = await self._call(
            "/grpc.health.v1.Health/Check",
            request,
            wrappers_pb2.Int32Value.FromString,
            timeout_s,
            policy=_NO_RETRY,
            wait_for_ready=wait_for_ready,
        )
        return Health(response.value) if response.value in set(Health) else Health.UNKNOWN

    @property
    def target(self) -> str:
        """Where the server is."""
        raise NotImplementedError

    def _deadline(self, timeout_s: float | None) -> Deadline:
        """Return the end of a call that begins now."""
        raise NotImplementedError

    async def _call(
        self,
        name: str,
        body: bytes,
        decode: Callable[[bytes], _T],
        timeout_s: float | None,
        *,
        policy: RetryPolicy | None = None,
        wait_for_ready: bool | None = None,
        distribution: str | None = None,
    ) -> _T:
        """Make a unary call."""
        raise NotImplementedError
