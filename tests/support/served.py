"""A whole server around a sampler that the test holds back: in the test's own process and loop, or inside Envoy."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import urllib.request
from collections.abc import Callable
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from samplerd.v1 import sampler_pb2 as pb
from samplerd.v1 import sampler_pb2_grpc
from samplerd_server.app.app import App
from samplerd_server.config import ServerConfig
from samplerd_server.transport.envoy.supervisor import Envoy
from tests.support.engine import HeldSampler, StubEngine
from tests.support.remote import Remote

WAIT_S = 30.0
LARGE = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
OWN_CONNECTION = ("grpc.use_local_subchannel_pool", 1)


def connect(address: str, *options: tuple[str, Any]) -> grpc.aio.Channel:
    """A channel with a connection of its own."""
    return grpc.aio.insecure_channel(address, options=(*LARGE, OWN_CONNECTION, *options))


def stub(channel: grpc.aio.Channel) -> Any:
    return sampler_pb2_grpc.SamplerServiceStub(channel)


DETAILS = {
    cls.DESCRIPTOR.full_name: cls
    for cls in (
        error_details_pb2.BadRequest,
        error_details_pb2.ErrorInfo,
        error_details_pb2.RequestInfo,
        error_details_pb2.RetryInfo,
    )
}


def details(status: status_pb2.Status) -> dict[str, Any]:
    """The details of a status by the name of their class."""
    return {
        any_.TypeName().rpartition(".")[2]: DETAILS[any_.TypeName()].FromString(any_.value) for any_ in status.details
    }


def status_of(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    """The rich status that a failed call carries; it must agree with the plain one."""
    trailers = dict(error.trailing_metadata())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    assert (status.code, status.message) == (error.code().value[0], error.details())
    return status


async def failure(call: Any) -> grpc.aio.AioRpcError:
    """The error of a call that must fail."""
    try:
        reply = await asyncio.wait_for(call, WAIT_S)
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError(f"it succeeded: {reply}")


class Served:
    """The server; `config` is by section: ``Served(admission={"queue_rows": 4})``."""

    def __init__(self, sampler: HeldSampler | None = None, **config: dict[str, Any]) -> None:
        base = ServerConfig()
        config = {"transport": {}, "metrics": {}, **config}
        config["transport"] = {"listen": ("127.0.0.1:0",), **config["transport"]}
        config["metrics"] = {"listen": "", **config["metrics"]}
        sections = {name: dataclasses.replace(getattr(base, name), **own) for name, own in config.items()}
        self.config = dataclasses.replace(base, **sections)
        self.sampler = sampler or HeldSampler()

    async def __aenter__(self) -> Served:
        self.app = App(self.config, StubEngine(self.sampler), asyncio.get_running_loop())  # type: ignore[arg-type]
        await self.app.start()
        self.address = self.app.server.addresses[0]
        self.metrics = self.app.metrics
        self.channel = connect(self.address)
        self.stub = stub(self.channel)
        self._stopping: asyncio.Task[bool] | None = None
        return self

    async def __aexit__(self, *_: object) -> None:
        self.sampler.open()
        await self.channel.close()
        await self.stop()

    def stop(self) -> asyncio.Task[bool]:
        """Begin to drain and stop, once."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self.app.stop())
        return self._stopping

    async def entered(self) -> None:
        """Wait until the sampler has got one more batch."""
        await asyncio.to_thread(self.sampler.wait_entered)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for what the server does by itself; the clock is round trips to it."""
        async with asyncio.timeout(WAIT_S):
            while not condition():
                await self.round_trip()

    async def round_trip(self, times: int = 1) -> None:
        """What the server was sent before has been read by now."""
        for _ in range(times):
            await self.stub.GetServerInfo(pb.GetServerInfoRequest())

    def tasks(self) -> list[str]:
        """What the server runs that a call could have left."""
        tasks = [task for task in asyncio.all_tasks() if not task.done()]
        names = [f"{task.get_name()} {task.get_coro()}" for task in tasks]
        return [name for name in names if "samplerd" in name and "GetServerInfo" not in name]

    def objects(self) -> int:
        """How many objects there are where the server is."""
        gc.collect()
        return len(gc.get_objects())

    async def scrape(self) -> dict[str, float]:
        return await asyncio.to_thread(scrape, self.app.exporting.address)


class ServedByEnvoy(Served):
    """The same inside an Envoy that outlives it; `app`, `metrics` and `sampler` are over there (`remote`)."""

    def __init__(self, envoy: Envoy, **config: dict[str, Any]) -> None:
        config["transport"] = {"transport": "envoy", **config.get("transport", {})}
        super().__init__(None, **config)
        self._envoy = envoy

    async def __aenter__(self) -> Served:
        self.child = Remote.connect(self._envoy.folder / "probe")
        await asyncio.to_thread(self.child.begin, self.config)
        self.app, self.sampler = self.child.app, self.child.sampler
        self.address = self._envoy.addresses[0]
        self.metrics = self.app.metrics
        self.channel = connect(self.address)
        self.stub = stub(self.channel)
        self._stopping = None
        return self

    async def __aexit__(self, *error: object) -> None:
        await super().__aexit__(*error)
        assert self.child.complaints == []

    def tasks(self) -> list[str]:
        return self.child.tasks()

    def objects(self) -> int:
        return self.child.objects()

    def stop(self) -> asyncio.Task[bool]:
        if self._stopping is None:
            self._stopping = asyncio.create_task(asyncio.to_thread(self.app.stop))
        return self._stopping


def scrape(address: str) -> dict[str, float]:
    """Value by series as Prometheus writes it."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=WAIT_S) as reply:
        lines = reply.read().decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}
