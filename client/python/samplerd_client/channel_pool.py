"""The channels of a client, the RPCs on them, which take turns on the channels, and the metadata of a call.

Rule 1: construction does nothing; `open` makes the channels on the running loop. Rule 2: a stream stays on the channel
that it began on.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from samplerd_client.channel import DISTRIBUTION_KEY, ChannelConfig, joint_target, open_channel
from samplerd_client.errors import ConnectionLostError
from samplerd_client.metadata import current_metadata
from samplerd_client.process_fork import check_fork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import grpc

__all__ = ["ChannelPool"]

_SERVICE = "/samplerd.v1.SamplerService/"


class ChannelPool:
    """As many channels as the configuration has connections."""

    def __init__(self, config: ChannelConfig) -> None:
        self._config = config
        self._channels: tuple[grpc.aio.Channel, ...] = ()
        self._methods: dict[str, Iterator[Any]] = {}

    @property
    def target(self) -> str:
        """The address of the server, or of the servers."""
        return joint_target(self._config.target)

    @property
    def why_no_regions(self) -> str:
        """Why no memory can be registered with the server: a region is one server's; empty = it can."""
        if self._config.connections == 1 and not self._config.is_balanced:
            return ""
        return (
            "a tensor on a CUDA device is registered with one server, so the client needs one target, no "
            "balance=True, and connections=1; or send the tensor by .cpu()"
        )

    @property
    def is_open(self) -> bool:
        """Whether there are channels."""
        return bool(self._channels)

    def open(self) -> None:
        """Open the channels on the running event loop.

        Raises:
            ConnectionLostError: this process was forked off one that had opened a client.

        """
        self._channels = tuple(open_channel(self._config) for _ in range(self._config.connections))

    def detach(self) -> Sequence[grpc.aio.Channel]:
        """Forget the channels, and return them to be closed: no call begins on them any more."""
        channels, self._channels = self._channels, ()
        self._methods.clear()
        return channels

    def method(self, name: str, decode: Callable[[bytes], Any], shape: str = "unary_unary") -> Any:
        """Return the callable of an RPC that takes encoded requests, on the channel whose turn it is.

        Args:
            name: of an RPC of the contract; or the whole path of another one.
            decode: from the bytes of a reply.
            shape: the name of the channel's method that makes the callable: ``stream_stream``, for example.

        Raises:
            ConnectionLostError: there are no channels, or this process was forked since they were opened.

        """
        check_fork()
        if not self._channels:
            raise ConnectionLostError("the client is not connected; use it as `async with SamplerClient(...)`")
        if name not in self._methods:
            makers = [getattr(each, shape) for each in self._channels]
            path = name if name.startswith("/") else _SERVICE + name
            own: list[Any] = [make(path, request_serializer=None, response_deserializer=decode) for make in makers]
            self._methods[name] = itertools.cycle(own)
        return next(self._methods[name])

    def metadata(self, distribution: str | None = None) -> Sequence[tuple[str, str]] | None:
        """Return the metadata of a call that concerns this uploaded distribution, if any."""
        own = (*self._config.metadata, *current_metadata())
        if distribution and distribution.isascii() and distribution.isprintable():  # the server refuses any other name
            own = (*own, (DISTRIBUTION_KEY, distribution))
        return own or None
