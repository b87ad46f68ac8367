"""Rows in device memory of another process, on a card: the draws are those of the same rows in a message."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from samplerd.oip import grpc_service_pb2 as oip
from samplerd.oip import grpc_service_pb2_grpc as oip_grpc
from samplerd.v1 import sampler_pb2 as pb
from samplerd_client import SamplerClient
from samplerd_client.cuda_driver import load_driver
from tests.support.daemon import Daemon
from tests.support.requests import tensor
from tests.support.served import WAIT_S, connect, stub
from tests.support.served_mix import without_times

pytestmark = pytest.mark.gpu
ROWS = np.random.default_rng(11).normal(0, 3, (64, 32_768)).astype(np.float32)


def ask(**source) -> pb.SampleRequest:
    asked = pb.SampleRequest(id=1, seed=5, num_samples=2, **source)
    asked.params.top_p = 0.9
    return asked


@pytest.fixture
def held(tmp_path):
    """What the other process tells of its memory."""
    (tmp_path / "rows").write_bytes(ROWS.tobytes())
    command = [sys.executable, "-m", "tests.gpu.hold_memory", str(tmp_path / "rows")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield json.loads(process.stdout.readline())
        process.stdin.close()
        assert process.wait(60) == 0


async def test_draws_are_those_of_the_wire_and_the_card_goes_on(held) -> None:
    with Daemon("--device", "cuda", "--kernel", "cuda", "--cuda-shared-memory") as daemon:
        async with connect(daemon.address) as channel:
            inference, service = oip_grpc.GRPCInferenceServiceStub(channel), stub(channel)
            want = without_times(await service.Sample(ask(tensor=tensor(ROWS)), timeout=WAIT_S))
            own = {"raw_handle": bytes.fromhex(held["handle"]), "byte_size": held["byte_size"]}
            for name in ("one", "other"):
                await inference.CudaSharedMemoryRegister(
                    oip.CudaSharedMemoryRegisterRequest(name=name, **own), timeout=WAIT_S
                )
            rows, vocab_size = ROWS.shape
            place = {"offset": held["offset"], "byte_size": ROWS.nbytes, "rows": rows, "vocab_size": vocab_size}
            before = daemon.metrics()['samplerd_device_copied_bytes_total{device="cuda:0"}']
            for name in ("one", "other"):
                here = pb.CudaSharedMemory(region=name, **place)
                got = await service.Sample(ask(cuda_shared_memory=here), timeout=WAIT_S)
                assert without_times(got) == want
                await inference.CudaSharedMemoryUnregister(
                    oip.CudaSharedMemoryUnregisterRequest(name=name), timeout=WAIT_S
                )
            assert daemon.metrics()['samplerd_device_copied_bytes_total{device="cuda:0"}'] == before
            assert without_times(await service.Sample(ask(tensor=tensor(ROWS)), timeout=WAIT_S)) == want
        assert daemon.metrics()['samplerd_device_lost{device="cuda:0"}'] == 0


async def test_the_client_takes_tensors_that_are_on_the_card() -> None:
    with Daemon("--device", "cuda", "--kernel", "cuda", "--cuda-shared-memory") as daemon:
        async with SamplerClient(daemon.address) as client:
            counter = 'samplerd_device_copied_bytes_total{device="cuda:0"}'
            for dtype in (torch.float32, torch.float16, torch.bfloat16):
                rows = torch.from_numpy(ROWS).to(dtype)
                want = await client.sample(rows, seed=5, num_samples=2, top_p=0.9)
                before = daemon.metrics()[counter]
                stream = torch.cuda.Stream()
                with torch.cuda.stream(stream):
                    on_card = rows.cuda(non_blocking=True)
                    got = await client.sample(on_card, seed=5, num_samples=2, top_p=0.9)
                assert np.array_equal(got.samples, want.samples)
                assert daemon.metrics()[counter] == before
            base, _ = load_driver().allocation(on_card.data_ptr())
            assert load_driver().handle(base) == load_driver().handle(base)
        metrics = daemon.metrics()
        assert metrics["samplerd_cuda_shared_memory_regions"] == 0
        assert metrics['samplerd_device_lost{device="cuda:0"}'] == 0
