"""Load from callers that notice every call that a server loses."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, Self

import grpc

from samplerd.v1 import sampler_pb2 as pb
from samplerd_client import SamplerClient
from samplerd_client.errors import SamplerdError
from tests.support.requests import one_hot, tensor
from tests.support.served import WAIT_S, connect, stub

_BALANCED = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": "samplerd.v1.SamplerService"},
}


def balanced(addresses: Sequence[str]) -> grpc.aio.Channel:
    """A channel to all of these servers that leaves out those whose health is not SERVING, and never tries again."""
    options = (("grpc.service_config", json.dumps(_BALANCED)), ("grpc.enable_retries", 0))
    return connect(f"ipv4:{','.join(addresses)}", *options)


class Load:
    """Callers that ask all the time until the block ends."""

    def __init__(self, callers: int = 16) -> None:
        self._callers = callers
        self._is_over = False
        self.answered = 0
        self.lost: Counter[str] = Counter()
        """Calls that failed, by what the caller was told."""

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._ask(number)) for number in range(self._callers)]
        await self.more(100)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_over = True
        await asyncio.gather(*self._tasks)

    async def more(self, answers: int) -> None:
        """Wait for so many more answers."""
        wanted = self.answered + answers
        async with asyncio.timeout(WAIT_S):
            while self.answered < wanted:
                await asyncio.sleep(0.01)
                for task in self._tasks:
                    if task.done():
                        task.result()

    async def _ask(self, number: int) -> None:
        while not self._is_over:
            try:
                assert await self._call(number) == [number]
                self.answered += 1
            except (grpc.aio.AioRpcError, SamplerdError) as error:
                self.lost[repr(error)] += 1
                await asyncio.sleep(0)

    async def _call(self, number: int) -> list[int]:
        raise NotImplementedError


class BalancedLoad(Load):
    """Callers that watch the health of several servers, with one attempt a call."""

    def __init__(self, addresses: Sequence[str]) -> None:
        super().__init__()
        self._addresses = tuple(addresses)

    async def __aenter__(self) -> Self:
        self._channel = balanced(self._addresses)
        await asyncio.wait_for(self._channel.channel_ready(), WAIT_S)
        return await super().__aenter__()

    async def __aexit__(self, *error: object) -> None:
        await super().__aexit__(*error)
        await self._channel.close()

    async def _call(self, number: int) -> list[int]:
        request = pb.SampleRequest(id=1, tensor=tensor(one_hot(1, 100, number)))
        return list((await stub(self._channel).Sample(request, timeout=WAIT_S)).samples)


class ClientLoad(Load):
    """Callers that share one of our clients, with its defaults unless others are given."""

    def __init__(self, target: str | Sequence[str], *, callers: int = 16, **settings: Any) -> None:
        super().__init__(callers)
        self._client = SamplerClient(target, **settings)

    async def __aenter__(self) -> Self:
        await self._client.connect()
        return await super().__aenter__()

    async def __aexit__(self, *error: object) -> None:
        await super().__aexit__(*error)
        await self._client.aclose()

    async def _call(self, number: int) -> list[int]:
        return (await self._client.sample(one_hot(1, 100, number))).samples[0].tolist()
