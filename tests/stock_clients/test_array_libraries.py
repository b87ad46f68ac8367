"""Tensors of pyarrow, onnxruntime, JAX, TensorFlow and ml_dtypes are rows; what is not taken raises TypeError."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stock_clients.run import run

ROOT = Path(__file__).parents[2]
NUMBERS = ["1.0", "-2.5", "3.25", "0.0", "-inf", "0.5"]
DTYPES = {"float32": "DTYPE_F32", "float16": "DTYPE_F16", "bfloat16": "DTYPE_BF16", "float64": "DTYPE_F64"}
OTHERS = {
    "pyarrow slice": "DTYPE_F64",
    "pyarrow tensor": "DTYPE_F32",
    "tensorflow variable": "DTYPE_F32",
}


@pytest.mark.stock
def test_what_libraries_of_arrays_make() -> None:
    folders = (ROOT / "client" / "python", ROOT / "protos" / "gen" / "python")
    read = run("arrays", "array_libraries.py", *map(str, folders))
    assert len(read) == 23
    for name, got in read.items():
        dtype = OTHERS.get(name) or DTYPES.get(name.split()[1])
        assert got == ("TypeError" if dtype is None else [dtype, NUMBERS]), name
