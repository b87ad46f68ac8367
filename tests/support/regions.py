"""Regions of shared memory made by hand, as a client in any language would: files of /dev/shm."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

import numpy as np

from samplerd.v1 import sampler_pb2 as pb

PREFIX = "samplerd-test-"
FOLDER = Path("/dev/shm")
DTYPES: dict[str, pb.Dtype.ValueType] = {
    "<f4": pb.DTYPE_F32,
    "<f2": pb.DTYPE_F16,
    "<u2": pb.DTYPE_BF16,
    "<f8": pb.DTYPE_F64,
}


class Region:
    """A region that is gone on exit, whatever the test has put in its place."""

    def __init__(self, content: bytes | None = b"", *, name: str = "") -> None:
        self.key = name or PREFIX + secrets.token_hex(8)
        self.path = FOLDER / self.key
        self._content = content

    def __enter__(self) -> Region:
        if self._content is not None:
            self.path.write_bytes(self._content)
        return self

    def __exit__(self, *_: object) -> None:
        if self.path.is_dir() and not self.path.is_symlink():
            self.path.rmdir()
        else:
            self.path.unlink(missing_ok=True)

    def rows(self, array: Any, offset: int = 0, **fields: Any) -> pb.SharedMemory:
        """The message that names these rows; a bfloat16 is given as its bits."""
        array = np.atleast_2d(array)
        fields = {
            "key": self.key,
            "offset": offset,
            "byte_size": array.nbytes,
            "dtype": DTYPES[array.dtype.str],
            "rows": array.shape[0],
            "vocab_size": array.shape[1],
            **fields,
        }
        return pb.SharedMemory(**fields)


def open_descriptors(pid: int | str = "self") -> list[str]:
    """What the descriptors of a process are open on, as far as it is a region."""
    names = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            names.append(os.readlink(entry))  # noqa: PTH115  # it need not exist any more
        except FileNotFoundError:
            continue
    return [name for name in names if name.startswith(f"{FOLDER}/{PREFIX}")]
