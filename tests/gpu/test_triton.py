"""The kernels in Triton on a CUDA device, against the compiled kernels of the CPU: every bit. None has run yet.

All memory is page-locked, which a device addresses as the host does: rows, scratch and answers lie there.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from samplerd_server.core.enums import Dtype
from samplerd_server.sampling.decode import read_bytes
from samplerd_server.sampling.parameters.record import LISTS
from tests.support.gpu_rows import FEW, KEPT, MIXED, SHAPED, STEPS, changed_rows, compare, rows, some_outputs

pytestmark = pytest.mark.gpu


def launch(kernel: Any, programs: int, *arguments: Any) -> None:
    from samplerd_server.sampling.cuda.build import KERNELS, REGISTERS  # noqa: PLC0415  # see draw_on_device

    warps = {own: number for own, _, number in KERNELS.values()}
    if programs:
        kernel[(programs,)](*arguments, num_warps=warps[kernel], enable_fp_fusion=False, maxnreg=REGISTERS)
        torch.cuda.synchronize()


def lock(array: Any) -> Any:
    """Copy arrays into page-locked memory."""
    if isinstance(array, dict):
        return {kind: lock(own) for kind, own in array.items()}
    return None if array is None else torch.from_numpy(array.copy()).pin_memory().numpy()


def copy_back(to: Any, own: Any) -> None:
    if isinstance(to, dict):
        for kind, values in to.items():
            copy_back(values, own[kind])
    elif to is not None:
        to[:] = own


def draw_on_device(rows: Any, results: Any) -> None:
    # Not before a device is asked for: Triton decides on its first import whether this process interprets.
    from samplerd_server.sampling.cuda.draw import draw  # noqa: PLC0415
    from samplerd_server.sampling.cuda.scope import is_drawn  # noqa: PLC0415

    assert is_drawn(rows).all()
    own, memory = rows.copy(), []
    for at in range(len(rows)):
        lists = [(own_list.name, f"{own_list.name}_len", 4) for own_list in LISTS if own_list.name != "steps"]
        for address, length, size in (
            ("data", "width", Dtype(int(rows["dtype"][at])).itemsize),
            ("guidance", "width", Dtype(int(rows["guidance_dtype"][at]) or 1).itemsize),
            ("candidate_ids", "width", 4),
            ("named", "named_len", 4),
            *lists,
        ):
            if rows[address][at] and rows[length][at]:
                memory.append(lock(read_bytes(int(rows[address][at]), size * int(rows[length][at]))))
                own[address][at] = memory[-1].ctypes.data
    locked = dataclasses.replace(results, **{name: lock(getattr(results, name)) for name in results.__slots__})
    draw(own, locked, launch, is_locked=True)
    for name in results.__slots__:
        copy_back(getattr(results, name), getattr(locked, name))


@settings(max_examples=200, deadline=None)
@given(
    rows(wanted=some_outputs(), width=st.sampled_from((1, 7, 512, 1_000, 32_768)), draws=st.sampled_from((1, 3, 100)))
)
def test_rows_without_filters(batch) -> None:
    compare(draw_on_device, *(row.ask() for row in batch))


@settings(max_examples=200, deadline=None)
@given(rows(parameters=FEW, wanted=st.just(KEPT), width=st.sampled_from((1, 40, 512, 1_000, 32_768))))
def test_rows_with_top_k(batch) -> None:
    compare(draw_on_device, *(row.ask() for row in batch))


@settings(max_examples=200, deadline=None)
@given(rows(parameters=MIXED, wanted=st.just(KEPT), width=st.sampled_from((1, 40, 512, 1_000, 32_768))))
def test_rows_with_any_filters(batch) -> None:
    compare(draw_on_device, *(row.ask() for row in batch))


@settings(max_examples=50, deadline=None)
@given(rows(parameters=st.tuples(MIXED, STEPS).map(lambda own: (*own[0], ("steps", own[1]))), wanted=st.just(KEPT)))
def test_rows_with_steps_of_their_own(batch) -> None:
    compare(draw_on_device, *(row.ask() for row in batch))


@settings(max_examples=200, deadline=None)
@given(changed_rows(most=4))
def test_rows_with_guidance_masks_biases_and_penalties(batch) -> None:
    compare(draw_on_device, *(row.ask() for row in batch))


@settings(max_examples=200, deadline=None)
@given(
    rows(
        wanted=some_outputs(),
        parameters=st.one_of(st.just(()), FEW, MIXED),
        width=st.sampled_from((1, 40, 1_000, 32_768)),
        draws=st.sampled_from((1, 5, 100)),
        with_replacement=st.just(False),
    )
)
def test_rows_without_replacement(batch) -> None:
    compare(draw_on_device, *(row.ask() for row in batch))


@settings(max_examples=200, deadline=None)
@given(rows(parameters=SHAPED, wanted=some_outputs(), width=st.sampled_from((1, 40, 512, 1_000, 32_768))))
def test_rows_with_smoothing_and_adaptive_p(batch) -> None:
    compare(draw_on_device, *(row.ask() for row in batch))
