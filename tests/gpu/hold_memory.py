"""A process that holds rows in device memory, as torch allocates it, and tells where: run by test_shared_memory.py.

Arguments: a file of float32 numbers. It prints one line of JSON, and ends when its standard input does.
"""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path

import numpy as np
import torch
from cuda.bindings import driver


def main() -> None:
    numbers = np.frombuffer(Path(sys.argv[1]).read_bytes(), np.float32)
    rows = torch.from_numpy(numbers.copy()).cuda()
    torch.cuda.synchronize()
    error, begin, size = driver.cuMemGetAddressRange(rows.data_ptr())
    assert not int(error), error
    error, handle = driver.cuIpcGetMemHandle(begin)
    assert not int(error), error
    told = {
        "handle": ctypes.string_at(handle.getPtr(), 64).hex(),
        "byte_size": int(size),
        "offset": rows.data_ptr() - int(begin),
    }
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
