"""Callers of one Unix socket have a share of the queue each, though the socket gives them no addresses."""

from __future__ import annotations

import asyncio
import json

import grpc
import numpy as np
import pytest

from samplerd.v1 import sampler_pb2 as pb
from samplerd_client import SamplerClient
from tests.support.daemon import Daemon
from tests.support.requests import one_hot, tensor
from tests.support.served import Served, connect, stub

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_envoy_tells_its_callers_apart_by_connection(tmp_path):
    (tmp_path / "tokens").write_text("secret\n")
    flags = "--transport", "envoy", "--token-file", str(tmp_path / "tokens")
    with Daemon(*flags, unix=tmp_path / "samplerd.sock") as daemon:
        for _ in range(2):
            async with connect(daemon.unix_address) as channel:
                for _ in range(2):
                    with pytest.raises(grpc.aio.AioRpcError):
                        await stub(channel).GetServerInfo(
                            pb.GetServerInfoRequest(), metadata=[("x-samplerd-connection", "forged")]
                        )
    lines = [json.loads(line) for line in daemon.log]
    peers = [line["peer"] for line in lines if line["message"] == "a call was refused"]
    assert len(peers) == 4
    assert peers[0] == peers[1] != peers[2] == peers[3]
    assert all(peer.removeprefix("unix:").isdigit() for peer in peers)


async def test_grpcio_tells_python_clients_apart_by_name(tmp_path):
    address = f"unix:{tmp_path / 'samplerd.sock'}"
    async with Served(transport={"listen": (address,)}, batching={"max_rows": 8}) as served:
        request = pb.SampleRequest(tensor=tensor(one_hot(1, 100, 1)))
        first = [served.stub.Sample(request)]
        await served.entered()
        first.append(served.stub.Sample(request))  # a batch of its own, behind the one on the device
        await served.until(lambda: served.app.batcher.in_flight == 2)
        async with SamplerClient(address) as greedy, SamplerClient(address) as polite:
            row = np.zeros((1, 100), np.float32)
            calls = [asyncio.ensure_future(client.sample(row)) for client in (greedy, polite)]
            await served.until(lambda: len(served.app.queue) == 2)
            assert served.app.queue.connections == 2
            served.sampler.open()
            await asyncio.gather(*calls, *first)
