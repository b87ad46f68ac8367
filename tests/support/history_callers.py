"""Callers that ask all the time and record what becomes of each call: see `history`."""

from __future__ import annotations

import asyncio
import random
from contextvars import ContextVar
from typing import Any

import grpc

from samplerd.v1 import sampler_pb2 as pb
from samplerd_client import SamplerClient
from samplerd_client.errors import SamplerdError
from tests.support.history import (
    ALONE,
    CUT,
    LARGE_SAMPLES,
    LARGE_SEEDS,
    OK,
    TOGETHER,
    WORDS,
    Call,
    Case,
    History,
    digest,
)
from tests.support.requests import tensor
from tests.support.served import WAIT_S, connect, stub

_CALL: ContextVar[Call] = ContextVar("_CALL")
_CUT_DETAILS = "Internal error from Core"
"""What grpcio's client says if it was writing to a stream when that ended; the status, INTERNAL, is its own."""
_PAUSE_S = 0.02
"""Before a caller without retries asks again after a failure, as nobody would be answered at once."""


class RecordedClient(SamplerClient):
    """Our client with its defaults, which records its attempts and numbers its requests."""

    async def _call(self, name: str, body: bytes, *arguments: Any, **options: Any) -> Any:
        # Fields may come in any order: the id follows the rest.
        return await super()._call(
            name, body + pb.SampleRequest(id=_CALL.get().id).SerializeToString(), *arguments, **options
        )

    async def _attempt(self, call: Any) -> Any:
        attempts = _CALL.get().attempts
        try:
            reply = await super()._attempt(call)
        except SamplerdError as error:
            attempts.append(_code_of(error))
            raise
        attempts.append(OK)
        return reply


class Callers:
    """All callers of one history; they ask until the block ends."""

    def __init__(self, history: History, address: str, *, kinds: tuple[str, ...], seed: int = 1) -> None:
        self._history = history
        self._address = address
        self._kinds = kinds
        self._random = random.Random(seed)
        self._is_over = False
        self.kept: set[str] = set()
        """Distributions that were uploaded and not deleted."""

    async def prepare(self) -> None:
        """Upload what large draws are of, and learn their answers from the undisturbed server."""
        async with connect(self._address) as channel:
            service = stub(channel)
            rows = tensor(self._history.cases[0].logits[:1])
            await service.CreateDistribution(pb.CreateDistributionRequest(name=WORDS, tensor=rows))
            for seed in range(LARGE_SEEDS):
                call = self._history.begin("first", seed=seed)
                reply = await service.Sample(_large(seed, id=call.id))
                call.expected = self._history.large[seed] = digest(reply.raw_samples)
                call.attempts, call.answers, call.is_over = [OK], [call.expected], True

    async def __aenter__(self) -> Callers:
        self._tasks = [asyncio.create_task(getattr(self, f"_{kind}")()) for kind in self._kinds]
        await self.more(50)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_over = True
        await asyncio.wait_for(asyncio.gather(*self._tasks), 2 * WAIT_S)

    async def more(self, answers: int) -> None:
        """Wait for so many more answers."""
        wanted = self._history.answered() + answers
        async with asyncio.timeout(WAIT_S):
            while self._history.answered() < wanted:
                await asyncio.wait(self._tasks, timeout=0.01)
                for task in self._tasks:
                    if task.done():
                        task.result()

    def _case(self) -> Case:
        return self._random.choice(self._history.cases)

    async def _client(self) -> None:
        """Our client, which tries again, with a message for each call."""
        async with RecordedClient(self._address, connections=2, coalesce=False) as client:
            while not self._is_over:
                await asyncio.gather(*(self._ask(ALONE, client, self._case()) for _ in range(4)))

    async def _together(self) -> None:
        """Our client with its defaults: it tries again, and calls of one row travel together."""
        cases = [case for case in self._history.cases if case.rows == 1]
        async with SamplerClient(self._address) as client:
            while not self._is_over:
                await asyncio.gather(*(self._ask(TOGETHER, client, self._random.choice(cases)) for _ in range(8)))

    async def _ask(self, kind: str, client: SamplerClient, case: Case) -> None:
        call = self._history.begin(kind, case)
        _CALL.set(call)
        code = OK
        try:
            result = await client.sample(
                case.logits, temperature=case.temperature, top_p=case.top_p, timeout_s=WAIT_S, **case.options
            )
        except SamplerdError as error:
            code = _code_of(error)
        else:
            call.answers.append(digest(result.samples.ravel()))
        if kind == TOGETHER:  # its attempts are those of the requests that it travelled in
            call.attempts.append(code)
        call.is_over = True

    async def _unary(self) -> None:
        """One attempt for each call, on a connection of its own."""
        async with connect(self._address) as channel:
            service = stub(channel)
            while not self._is_over:
                case = self._case()
                call = self._history.begin("unary", case)
                try:
                    reply = await service.Sample(case.request(id=call.id), timeout=WAIT_S)
                except grpc.aio.AioRpcError as error:
                    call.attempts.append(error.code().name)
                    await asyncio.sleep(_PAUSE_S)
                else:
                    call.attempts.append(OK)
                    call.answers.append(digest(reply.samples))
                call.is_over = True

    async def _stream(self) -> None:
        """Streams of some requests, of which each is answered by its id."""
        async with connect(self._address) as channel:
            while not self._is_over:
                asked = {}
                for _ in range(8):
                    case = self._case()
                    call = self._history.begin("stream", case)
                    asked[call.id] = call, case.request(id=call.id)
                await self._run(stub(channel).SampleStream(timeout=WAIT_S), asked)

    async def _large(self) -> None:
        """Draws that are answered in chunks."""
        async with connect(self._address) as channel:
            while not self._is_over:
                seed = self._random.randrange(LARGE_SEEDS)
                call = self._history.begin("large", seed=seed)
                await self._run(stub(channel).SampleStream(timeout=WAIT_S), {call.id: (call, _large(seed, id=call.id))})

    async def _run(self, stream: Any, asked: dict[int, tuple[Call, pb.SampleRequest]]) -> None:
        """Send requests on a stream, and record the replies to each."""
        parts: dict[int, list[pb.SampleResponse]] = {number: [] for number in asked}
        broken = OK
        try:
            for _, request in asked.values():
                await stream.write(request)
            await stream.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # the stream is over; what follows says why
        try:
            while (reply := await stream.read()) is not grpc.aio.EOF:
                self._take(asked[reply.id][0], parts[reply.id], reply)
            broken = (await stream.code()).name
        except grpc.aio.AioRpcError as error:
            broken = CUT if error.details() == _CUT_DETAILS else error.code().name
        for call, _ in asked.values():
            if not call.attempts:
                call.attempts.append(f"{broken} of the stream")
            call.is_over = True
        if broken != OK:
            await asyncio.sleep(_PAUSE_S)

    def _take(self, call: Call, parts: list[pb.SampleResponse], reply: pb.SampleResponse) -> None:
        if call.attempts or reply.chunk != len(parts):
            self._history.faults.append(
                f"{call.kind} {call.id}: chunk {reply.chunk} after {len(parts)}, {call.attempts}"
            )
        parts.append(reply)
        if reply.HasField("error"):
            call.attempts.append(grpc_code(reply.error.code))
        elif reply.final:
            call.attempts.append(OK)
            raw = b"".join(part.raw_samples for part in parts)
            call.answers.append(digest(raw or (sampled for part in parts for sampled in part.samples)))

    async def _upload(self) -> None:
        """Uploads of distributions, each drawn from once: whoever was told that it is there finds it, on any worker."""
        async with connect(self._address) as channel, connect(self._address) as other:
            while not self._is_over:
                case = self._case()
                call = self._history.begin("upload", case)
                name = f"history-{call.id}"
                try:
                    rows = tensor(case.logits)
                    await stub(channel).CreateDistribution(
                        pb.CreateDistributionRequest(name=name, tensor=rows), timeout=WAIT_S
                    )
                    self.kept.add(name)
                    reply = await stub(other).Sample(case.request(id=call.id, distribution=name), timeout=WAIT_S)
                    call.answers.append(digest(reply.samples))
                    call.attempts.append(OK)
                    if call.id % 8:
                        self.kept.discard(name)
                        await stub(channel).DeleteDistribution(pb.DeleteDistributionRequest(name=name), timeout=WAIT_S)
                except grpc.aio.AioRpcError as error:
                    if not call.attempts:
                        call.attempts.append(error.code().name)
                    await asyncio.sleep(_PAUSE_S)
                call.is_over = True


def _code_of(error: SamplerdError) -> str:
    assert isinstance(error.__cause__, grpc.aio.AioRpcError), repr(error)
    return error.__cause__.code().name


def grpc_code(number: int) -> str:
    """The name of a status code."""
    return next(code.name for code in grpc.StatusCode if code.value[0] == number)


def _large(seed: int, **fields: Any) -> pb.SampleRequest:
    request = pb.SampleRequest(distribution=WORDS, num_samples=LARGE_SAMPLES, seed=seed, **fields)
    request.outputs.raw_samples = True
    return request
