"""Rows in registered memory of a CUDA device: what is sent, and what is no such rows."""

from __future__ import annotations

import pytest

from samplerd.v1 import sampler_pb2 as pb
from samplerd_client import CudaSharedMemory
from samplerd_client.request import build

MEMORY = CudaSharedMemory(region="logits", rows=2, vocab_size=300, offset=8, dtype="bf16")
MESSAGE = pb.CudaSharedMemory(region="logits", offset=8, byte_size=1200, dtype=pb.DTYPE_BF16, rows=2, vocab_size=300)


def sent(**options) -> pb.SampleRequest:
    return pb.SampleRequest.FromString(build(None, options).encode())


def test_rows_and_guidance_rows_are_named() -> None:
    alone = sent(shared_memory=MEMORY, seed=1)
    assert (alone.WhichOneof("source"), alone.cuda_shared_memory) == ("cuda_shared_memory", MESSAGE)
    guided = sent(shared_memory=MEMORY, guidance=MEMORY, seed=1)
    assert guided.guidance.cuda_shared_memory == MESSAGE


class Tensor:
    """A tensor on a device, as far as it is looked at."""

    is_cuda = True


def test_a_tensor_on_a_device_is_no_name_of_rows() -> None:
    with pytest.raises(TypeError, match="got Tensor; give a tensor on a CUDA device as the first argument"):
        sent(shared_memory=Tensor())
