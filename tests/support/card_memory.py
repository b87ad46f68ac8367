"""Device memory of another process, as the double of a card has it: a file of /dev/shm, and its handle."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

import numpy as np

from samplerd.oip import grpc_service_pb2 as oip
from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.sampling.cuda.late_regions import make_handle
from tests.support.regions import DTYPES

OTHER_PROCESS = os.getppid()
"""The owner that handles name, unless they are those of the process that opens them."""


class CardMemory:
    """Memory that is gone on exit."""

    def __init__(self, content: bytes, *, owner: int = OTHER_PROCESS) -> None:
        self.name = f"samplerd-test-card-{secrets.token_hex(6)}"
        self.path = Path("/dev/shm") / self.name
        self.size = len(content)
        self.handle = make_handle(self.name, owner)
        self._content = content

    def __enter__(self) -> CardMemory:
        self.path.write_bytes(self._content)
        return self

    def __exit__(self, *_: object) -> None:
        self.path.unlink(missing_ok=True)

    def write(self, offset: int, data: bytes) -> None:
        with self.path.open("r+b") as file:
            file.seek(offset)
            file.write(data)

    def read(self, offset: int, size: int) -> bytes:
        return self.path.read_bytes()[offset : offset + size]

    def register(self, **fields: Any) -> oip.CudaSharedMemoryRegisterRequest:
        fields = {"name": self.name, "raw_handle": self.handle, "device_id": 0, "byte_size": self.size, **fields}
        return oip.CudaSharedMemoryRegisterRequest(**fields)

    def rows(self, array: Any, offset: int = 0, **fields: Any) -> pb.CudaSharedMemory:
        """The message that names rows like these."""
        array = np.atleast_2d(array)
        fields = {
            "region": self.name,
            "offset": offset,
            "byte_size": array.nbytes,
            "dtype": DTYPES[array.dtype.str],
            "rows": array.shape[0],
            "vocab_size": array.shape[1],
            **fields,
        }
        return pb.CudaSharedMemory(**fields)
