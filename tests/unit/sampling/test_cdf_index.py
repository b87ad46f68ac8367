"""A draw by a CDF index is that from the row itself, to the bit: any shape, dtype, kind, temperature, parameters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from samplerd_server.core.enums import Dtype, InputKind
from samplerd_server.sampling.cdf_index import draw as indexed_draw
from samplerd_server.sampling.cdf_index.layout import GROUP, group_count, guide_size
from samplerd_server.sampling.noise import Purpose, uniforms
from tests.support.cdf_index import by_name, draw_indexed, make_builder, store_rows
from tests.support.samplers import draw, make_sampler, params, request

WIDTHS = (1, 2, 15, 16, 17, 31, 511, 512, 513, 1000, 5003, 70_001)
SHAPES = ("normal", "sparse", "peaked", "tail", "one_hot", "equal")


def numbers(shape: str, kind: InputKind, rows: int, width: int, seed: int) -> np.ndarray:
    """Rows of one sort, as logits or as weights."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, width)) * 1.5
    if shape == "sparse":
        x[rng.random((rows, width)) < 0.9] = -np.inf
        x[:, width // 2] = 1.0
    elif shape == "peaked":
        x[:, width // 3] = 9.0
    elif shape == "tail":
        x -= np.linspace(0, 9, width)
    elif shape == "one_hot":
        x[:] = -np.inf
        x[:, -1] = 2.0
    elif shape == "equal":
        x[:] = 0.25
    return np.exp(x) if kind is InputKind.PROBABILITIES else x


def assert_same(asked, *, expect_index: bool = True) -> None:
    segment = store_rows(asked)
    assert (segment.rows.cdf_index is not None) is expect_index
    want = draw(make_sampler("numba"), asked)
    assert not want.status.any()
    assert draw_indexed(by_name(asked, segment)).tolist() == want.samples.tolist()
    stored = draw(make_sampler("numba"), replace(asked, source=segment.rows))
    assert stored.samples.tolist() == want.samples.tolist()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", InputKind)
@pytest.mark.parametrize("dtype", Dtype)
def test_the_draws_of_a_cdf_index_are_those_of_its_rows(width, kind, dtype):
    for at, shape in enumerate(SHAPES):
        for temperature in (1.0, 0.7, 1e-3, 30.0):
            rows = numbers(shape, kind, 2, width, seed=at)
            own = params(temperature=temperature)
            assert_same(request(rows, dtype, params=own, kind=kind, num_samples=700, seed=77, draw_offset=5))


FIXED_PARAMS = {
    "greedy": params(temperature=0.0),
    "greedy among the allowed": params(temperature=0.0, allowed_tokens=np.array([3, 5], np.int32)),
    "top_k": params(top_k=7),
    "top_k of one": params(top_k=1),
    "all of it": params(top_k=300, top_p=0.8, min_p=0.01, temperature=1.3),
    "typical": params(typical_p=0.5),
    "bias": params(bias_ids=np.array([3, 40], np.int32), bias_values=np.array([5.0, -np.inf], np.float32)),
    "allowed": params(allowed_tokens=np.array([3, 40, 41, 299], np.int32)),
    "penalties": params(repetition_penalty=1.5, presence_penalty=0.5, history=np.array([1, 2, 2], np.int32)),
    "dynamic": params(dynamic_temperature_range=0.4, temperature=0.9),
    "sigma": params(top_n_sigma=1.0, temperature=2.0),
}


@pytest.mark.parametrize("name", FIXED_PARAMS)
@pytest.mark.parametrize("kind", InputKind)
def test_parameters_can_be_baked_in(name, kind):
    for shape in ("normal", "tail", "peaked"):
        rows = numbers(shape, kind, 3, 600, seed=4)
        assert_same(request(rows, params=FIXED_PARAMS[name], kind=kind, num_samples=500, seed=3, draw_offset=2**40))


def test_what_the_noise_of_a_request_decides_has_no_cdf_index():
    own = params(xtc_probability=0.5, xtc_threshold=0.1)
    segment = store_rows(request(np.zeros((1, 9)), params=own))
    assert segment.rows.cdf_index is None


def test_row_seeds_and_the_index_of_a_later_row_are_heeded():
    asked = request(numbers("normal", InputKind.LOGITS, 4, 300, seed=1), num_samples=50, seed=9)
    segment = store_rows(asked)
    seeded = replace(asked, row_seeds=np.array([5, 2**64 - 1, 5, 7], np.uint64), seed=0)
    for own in (asked, seeded):
        whole = draw(make_sampler("numba"), own).samples.reshape(4, 50)
        assert draw_indexed(by_name(own, segment)).reshape(4, 50).tolist() == whole.tolist()
        part = replace(
            by_name(own, segment),
            source=segment.rows.part(1, 3),
            first_row=1,
            row_seeds=None if own.row_seeds is None else own.row_seeds[1:3],
            draw_offset=20,
            num_samples=30,
        )
        assert draw_indexed(part).reshape(2, 30).tolist() == whole[1:3, 20:].tolist()
        in_rows = draw(make_sampler("numba"), replace(part, cdf_index=None)).samples
        assert in_rows.reshape(2, 30).tolist() == whole[1:3, 20:].tolist()


def test_the_end_of_the_draw_indices_wraps_nowhere_else():
    asked = request(numbers("normal", InputKind.LOGITS, 1, 300, seed=1), num_samples=200, draw_offset=2**64 - 200)
    assert_same(asked)


def test_several_draws_share_a_batch_and_each_has_its_own():
    first = request(numbers("normal", InputKind.LOGITS, 2, 40, seed=1), num_samples=3, seed=1)
    second = request(numbers("tail", InputKind.LOGITS, 1, 700, seed=2), num_samples=200, seed=2)
    own = [by_name(asked, store_rows(asked)) for asked in (first, second)]
    together = draw_indexed(*own)
    assert together.tolist() == [*draw_indexed(own[0]), *draw_indexed(own[1])]


def test_the_noise_is_the_documented_noise():
    out, first = np.empty(128), 2**32 - 60
    seed = 0xFEDCBA9876543210
    indexed_draw._uniforms.py_func(np.uint64(seed), np.uint64(first), np.uint32(7), out)
    draws = np.arange(first, first + 128, dtype=np.uint64)
    want = uniforms(np.array([seed], np.uint64), draws, np.array([7], np.uint64), Purpose.DRAW)
    assert out.tolist() == want.tolist()


def read_index(segment):
    record = segment.rows.cdf_index._records[0]

    def view(name, count, code):
        size = count * np.dtype(code).itemsize
        at = int(record[name])
        return np.ctypeslib.as_array((np.ctypeslib.ctypes.c_uint8 * size).from_address(at)).view(code)

    width = int(record["width"])
    ends = view("ends", group_count(width), "f8")
    return record, ends, view("guide", guide_size(width) + 1, "i4")


@pytest.mark.parametrize("shape", SHAPES)
def test_the_guide_never_points_past_the_group_that_a_uniform_falls_into(shape):
    asked = request(numbers(shape, InputKind.LOGITS, 1, 5003, seed=3))
    segment = store_rows(asked)
    record, ends, guide = read_index(segment)
    total, size = float(record["total"]), len(guide) - 1
    assert ends[-1] == total
    assert (np.diff(ends) >= 0).all()
    for part in range(size):
        for u in (part / size, np.nextafter((part + 1) / size, 0)):
            group = int(np.argmax(ends > u * total))
            assert guide[part] <= group <= guide[part + 1]


def test_beyond_all_sums_is_the_last_place_of_positive_mass():
    rows = numbers("sparse", InputKind.LOGITS, 1, 5003, seed=3)
    rows[0, 4000:] = -np.inf
    record, _, _ = read_index(store_rows(request(rows)))
    assert int(record["beyond"]) == np.flatnonzero(np.isfinite(rows[0]))[-1]


def test_a_plan_says_beforehand_what_it_takes():
    asked = request(np.zeros((3, 1000)), params=params(top_k=5))
    segment = store_rows(asked)
    rows_bytes = 3 * 1000 * 4
    # 5 numbers and 5 ids a row rather than 1,000, each part beginning at a line of 64 bytes.
    assert rows_bytes < segment.size_bytes < rows_bytes + 3 * 6 * 64 + 1024
    plain = store_rows(request(np.zeros((1, 1 << 16))))
    assert plain.size_bytes < (1 << 16) * 5
    assert GROUP == 16


def test_a_wider_row_after_a_narrow_one_finds_room():
    make_builder()._workspace.grow(1024)
    assert_same(
        request(numbers("normal", InputKind.LOGITS, 1, 70_001, seed=3), num_samples=100, params=params(top_k=60_000))
    )
