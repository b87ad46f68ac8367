"""Rows of bytes from whatever holds numbers."""

from __future__ import annotations

import array
from typing import Any

import numpy as np
import pytest
import torch

from samplerd.v1 import sampler_pb2 as pb
from samplerd_client.arrays import as_rows, bfloat16_bits

ROWS = np.array([[1.0, -2.5, 3.25], [0.0, -np.inf, 0.5]], dtype=np.float32)


def numbers(rows: Any) -> np.ndarray:
    if rows.dtype == pb.DTYPE_BF16:
        return (np.frombuffer(rows.data, dtype="<u2").astype(np.uint32) << 16).view(np.float32)
    kind = {pb.DTYPE_F32: "<f4", pb.DTYPE_F16: "<f2", pb.DTYPE_F64: "<f8"}[rows.dtype]
    return np.frombuffer(rows.data, dtype=kind)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (ROWS, pb.DTYPE_F32),
        (ROWS.astype(np.float16), pb.DTYPE_F16),
        (ROWS.astype(np.float64), pb.DTYPE_F64),
        (ROWS.astype(">f4"), pb.DTYPE_F32),
        (np.asfortranarray(ROWS), pb.DTYPE_F32),
        (np.repeat(ROWS, 2, axis=1)[:, ::2], pb.DTYPE_F32),
        (ROWS.tolist(), pb.DTYPE_F32),
        (memoryview(ROWS), pb.DTYPE_F32),
        (torch.tensor(ROWS), pb.DTYPE_F32),
        (torch.tensor(ROWS).double(), pb.DTYPE_F64),
        (torch.tensor(ROWS).half(), pb.DTYPE_F16),
        (torch.tensor(ROWS).bfloat16(), pb.DTYPE_BF16),
        (torch.tensor(ROWS.T.copy()).bfloat16().T, pb.DTYPE_BF16),
        (torch.tensor(ROWS, requires_grad=True), pb.DTYPE_F32),
        (torch.tensor(ROWS).bfloat16().requires_grad_(), pb.DTYPE_BF16),
        (
            torch.zeros(4, 3).bfloat16().index_copy_(0, torch.tensor([2, 3]), torch.tensor(ROWS).bfloat16())[2:],
            pb.DTYPE_BF16,
        ),
    ],
)
def test_what_is_taken(values: Any, dtype: int) -> None:
    rows = as_rows(values)
    assert (rows.rows, rows.vocab_size, rows.dtype) == (2, 3, dtype)
    assert numbers(rows).tolist() == ROWS.ravel().tolist()


def test_one_row_and_integers() -> None:
    assert (as_rows([1, 2, 3]).rows, as_rows([1, 2, 3]).vocab_size) == (1, 3)
    assert numbers(as_rows(np.arange(4))).tolist() == [0, 1, 2, 3]
    assert numbers(as_rows(torch.arange(4))).tolist() == [0, 1, 2, 3]
    assert numbers(as_rows(array.array("d", [1.5, 2.5]))).tolist() == [1.5, 2.5]
    assert as_rows(torch.tensor([1.5]).bfloat16()).rows == 1


def test_no_copy_of_what_is_ready() -> None:
    assert np.shares_memory(np.frombuffer(as_rows(ROWS).data, dtype=np.float32), ROWS)
    tensor = torch.tensor(ROWS)
    assert np.frombuffer(as_rows(tensor).data, dtype=np.float32).ctypes.data == tensor.data_ptr()
    half = tensor.bfloat16()
    assert np.frombuffer(as_rows(half).data, dtype=np.uint16).ctypes.data == half.data_ptr()


def test_the_view_outlives_the_tensor() -> None:
    rows = as_rows(torch.full((1, 1_000_000), 1.5).bfloat16())
    torch.zeros(1, 1_000_000).bfloat16()  # would take the freed memory
    assert (numbers(rows) == 1.5).all()


@pytest.mark.parametrize(
    ("values", "error"),
    [
        (np.zeros((2, 2, 2)), ValueError),
        (np.float32(3), ValueError),
        ([], ValueError),
        ([[]], ValueError),
        ([[1.0], [1.0, 2.0]], ValueError),
        (["a"], ValueError),
        (b"\x00\x00\x00\x00", TypeError),
        ("1,2", TypeError),
        (np.array([1j]), TypeError),
        (np.array([None]), TypeError),
        (None, TypeError),
        (torch.zeros(0).bfloat16(), ValueError),
        (torch.zeros(3, device="meta"), (TypeError, BufferError, ValueError)),
    ],
)
def test_what_is_not(values: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        as_rows(values)


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16", "f64"])
@pytest.mark.parametrize(
    "values", [ROWS, ROWS.astype(np.float64), ROWS.astype(np.float16), torch.tensor(ROWS).bfloat16()]
)
def test_conversions(values: Any, dtype: str) -> None:
    rows = as_rows(values, dtype)
    assert rows.dtype == {"f32": 1, "f16": 2, "bf16": 3, "f64": 4}[dtype]
    assert numbers(rows).tolist() == ROWS.ravel().tolist()


def test_conversions_that_would_lie() -> None:
    with pytest.raises(ValueError, match="too large"):
        as_rows([70000.0], "f16")
    with pytest.raises(ValueError, match="too large"):
        as_rows(np.array([-1e300]), "f32")
    with pytest.raises(ValueError, match="too large"):
        as_rows(np.array([3.4e38], dtype=np.float32), "bf16")
    with pytest.raises(ValueError, match="dtype must be"):
        as_rows([1.0], "int8")
    assert numbers(as_rows([np.inf, -np.inf], "bf16")).tolist() == [np.inf, -np.inf]


def test_lists_hold_what_the_dtype_holds() -> None:
    assert numbers(as_rows([0.1, 1e300], "f64")).tolist() == [0.1, 1e300]
    assert numbers(as_rows(np.array([2**24 + 1]), "f64")).tolist() == [2**24 + 1]
    with pytest.raises(ValueError, match="too large for DTYPE_F32"):
        as_rows([1e300])


@pytest.mark.parametrize(
    "rows",
    [
        [torch.tensor(ROWS[0]).bfloat16(), torch.tensor(ROWS[1]).bfloat16()],
        [torch.tensor(ROWS[0], requires_grad=True), ROWS[1]],
        (ROWS[0].tolist(), torch.tensor(ROWS[1]).half()),
        [np.ma.MaskedArray(ROWS[0]), ROWS[1]],
    ],
)
def test_lists_of_tensors(rows: Any) -> None:
    assert numbers(as_rows(rows)).tolist() == ROWS.ravel().tolist()


MASKED = np.ma.MaskedArray(ROWS, mask=[[False, True, False], [False, False, False]])


@pytest.mark.parametrize(
    "values", [MASKED, MASKED.astype(np.float64), MASKED.astype(">f4"), list(MASKED), (MASKED[0],)]
)
def test_masked_numbers_are_refused(values: Any) -> None:
    with pytest.raises(ValueError, match="masked"):
        as_rows(values)
    with pytest.raises(ValueError, match="masked"):
        as_rows(values, "f32")


def test_masks_that_hide_nothing_are_taken() -> None:
    assert numbers(as_rows(np.ma.MaskedArray(ROWS))).tolist() == ROWS.ravel().tolist()
    filled = as_rows(MASKED.filled(-np.inf))
    assert numbers(filled).tolist() == [1.0, -np.inf, 3.25, 0.0, -np.inf, 0.5]


def test_bfloat16_rounds_as_torch_does() -> None:
    bits = np.random.default_rng(5).integers(0, 2**32, 200_000, dtype=np.uint64).astype(np.uint32)
    values = bits.view(np.float32)
    ours = bfloat16_bits(values)
    theirs = torch.tensor(values).bfloat16().view(torch.uint16).numpy()
    real = ~np.isnan(values)
    assert (ours[real] == theirs[real]).all()
    assert np.isnan((ours[~real].astype(np.uint32) << 16).view(np.float32)).all()
