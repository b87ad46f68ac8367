"""What the table says of filters means the same to the reference, to compiled code and to torch."""

from __future__ import annotations

import math

import numba
import numpy as np
import pytest
import torch

from samplerd_server.batching.pack import pack
from samplerd_server.core.enums import FilterStep, Order, TieRule
from samplerd_server.sampling import arithmetic, parameters
from samplerd_server.sampling.kernels import filter_table
from samplerd_server.sampling.parameters import (
    FILTERS,
    ORDERS,
    PARAMETERS,
    Need,
    ParamKind,
    early_filters,
    rule_of,
    steps_of,
)
from samplerd_server.sampling.parameters.record import LIST_FIELDS, LISTS, NUMBER_FIELDS, lists_of, numbers_of
from samplerd_server.sampling.portable import arithmetic as torch_arithmetic
from samplerd_server.sampling.portable.records import DeviceRecords, Fields
from samplerd_server.sampling.reference import pipeline as reference
from samplerd_server.sampling.rows import COLD_DEFAULT, HOT, ROW
from samplerd_server.sampling.thresholds import thresholds
from tests.support.samplers import params, request

VALUES = {
    "min_tokens_to_keep": 2,
    "repetition_penalty": 1.2,
    "presence_penalty": -0.5,
    "xtc_threshold": 0.6,
}


def random_params(count: int) -> list:
    """Parameters of which each is off as often as not; XTC's threshold on either side of where it can act."""
    random = np.random.default_rng(5)
    numbers = [row for row in PARAMETERS if row.kind in {ParamKind.FLOAT, ParamKind.INTEGER} and row.off is not None]
    names = [row.name for row in numbers if row.name != "temperature"] + ["xtc_threshold"]
    values = {row.name: 3 if row.kind is ParamKind.INTEGER else 0.25 for row in numbers} | VALUES
    return [params(**{name: values[name] for name in names if random.random() < 0.5}) for _ in range(count)]


@pytest.fixture(scope="module")
def drawn() -> tuple[list, np.ndarray]:
    own = random_params(300)
    return own, pack([request([0.0, 1.0], params=one) for one in own]).rows


@numba.njit
def compiled_bits(rows, out, penalties):
    for i in range(len(rows)):
        out[i] = filter_table.filters_on(rows[i])
        penalties[i] = filter_table.has_token_penalties(rows[i])


def test_predicates_agree(drawn):
    own, rows = drawn
    bits, penalties = np.empty(len(rows), np.int64), np.empty(len(rows), bool)
    compiled_bits(rows, bits, penalties)
    device = DeviceRecords(rows, torch.device("cpu"))
    for at, rule in enumerate(FILTERS):
        expected = [bool(rule.is_on(one)) for one in own]
        assert 0 < sum(expected) < len(own), rule.name
        assert ((bits >> at) & 1).astype(bool).tolist() == expected, rule.name
        assert rule.is_on(Fields(rows)).tolist() == expected, rule.name
        assert rule.is_on(device)[:, 0].tolist() == expected, rule.name
    expected = [bool(parameters.has_token_penalties(one)) for one in own]
    assert 0 < sum(expected) < len(own)
    assert penalties.tolist() == expected
    assert [bool(parameters.has_token_penalties(Fields(one))) for one in rows] == expected


def test_a_column_is_copied_once(drawn):
    """Each copy is a launch on a GPU; a filter reads a column twice: whether it is on, and its value."""
    device = DeviceRecords(drawn[1], torch.device("cpu"))
    assert device.top_k is device.top_k is device.column("top_k")
    assert device.column("top_k").tolist() == drawn[1]["top_k"][:, None].tolist()


@numba.njit
def compiled_steps(rows, out, early, ties, least):
    for i in range(len(rows)):
        row = rows[i]
        for place in range(filter_table.count_steps(row)):
            out[i, place] = filter_table.step_at(row, place)
        early[i] = filter_table.early_filters(row, filter_table.filters_on(row))
        for number in range(ties.shape[1]):
            ties[i, number] = filter_table.tie_rule(row, number)
            least[i, number] = filter_table.least_of(row, number)


def test_compiled_orders_are_those_of_the_table():
    names = [*(own.name for own in FILTERS), "temperature"]
    random = np.random.default_rng(6)
    free = [{"steps": random.permutation(list(FilterStep)).astype(np.int32)[:length]} for length in range(1, 11)]
    own = [params(top_p=0.5, **fields) for fields in ({"order": order} for order in Order)]
    own += [params(min_p=0.5, ties=TieRule(1 + at % 5), top_k_is_exact=at % 2, **each) for at, each in enumerate(free)]
    rows = pack([request([0.0], params=one) for one in own]).rows
    steps = np.full((len(own), len(names)), -1)
    early = np.zeros(len(own), bool)
    ties, least = np.zeros((2, len(own), len(FILTERS)), int)
    compiled_steps(rows, steps, early, ties, least)
    for at, one in enumerate(own):
        assert [names[number] for number in steps[at].tolist() if number >= 0] == list(steps_of(one))
        assert early[at] == bool(early_filters(one))
        assert ties[at].tolist() == [rule_of(one.ties, rule.name) for rule in FILTERS]
    assert set(early.tolist()) == {True, False}
    assert ORDERS[Order.LLAMA_CPP] == steps_of(own[2])


def test_a_filter_keeps_what_it_has_to_keep():
    exact, usual = params(min_tokens_to_keep=3, top_k_is_exact=True), params(min_tokens_to_keep=3)
    rows = pack([request([0.0], params=one) for one in (exact, usual)]).rows
    shape = (2, len(FILTERS))
    least = np.zeros(shape, int)
    compiled_steps(rows, np.zeros((2, 12), int), np.zeros(2, bool), np.zeros(shape, int), least)
    assert least[0].tolist() == [1 if own.name in {"top_k", "top_n_sigma"} else 3 for own in FILTERS]
    assert least[1].tolist() == [3] * len(FILTERS)


def test_a_record_holds_every_parameter(drawn):
    own, rows = drawn
    for one, record in zip(own, rows, strict=True):
        for name, _, _ in NUMBER_FIELDS:
            if not name.startswith("dry_"):
                assert record[name] == getattr(one, name), name
    held = {name for name, *_ in (*NUMBER_FIELDS, *LIST_FIELDS)} | {"temperature"}
    for row in PARAMETERS:
        own_names = [f"{row.name}_{name}" for field in row.fields for name in field.attributes]
        for name in own_names or row.attributes:
            assert name in held, name
    assert len(numbers_of(own[0])) == len(NUMBER_FIELDS)
    assert len(lists_of(own[0])) == len(LISTS)


def test_a_plain_record_is_the_default():
    plain = pack([request([0.0])]).rows
    cold = np.frombuffer(COLD_DEFAULT, np.uint8)
    assert plain.tobytes()[HOT.size :] == cold.tobytes()
    defaults = params()
    for name, _, _ in NUMBER_FIELDS:
        if not name.startswith("dry_"):
            assert plain[name][0] == getattr(defaults, name), name
    assert ROW.itemsize % 8 == 0


@numba.njit
def compiled_threshold(number, row, largest, total, entropy):
    return filter_table.threshold(number, row, largest, total, entropy)


def test_thresholds_agree_and_use_what_they_need():
    exact = thresholds(exp=arithmetic.exp, sqrt=math.sqrt, minimum=min)
    columns = thresholds(exp=torch_arithmetic.exp, sqrt=torch.sqrt, minimum=torch.minimum)
    assert exact.keys() == columns.keys() < {own.name for own in FILTERS}
    for at, own in enumerate(FILTERS):
        if own.name not in exact:
            continue
        record = pack([request([0.0], params=params(**{own.name: 0.25}))]).rows[0]
        # What is not needed must not be looked at.
        known = [
            0.7 if own.needs & Need.LARGEST else math.nan,
            3.1 if own.needs & Need.TOTAL else math.nan,
            1.9 if own.needs & Need.EACH else math.nan,
        ]
        expected = exact[own.name](0.25, *known)
        assert math.isfinite(expected)
        assert compiled_threshold(at, record, *known) == expected, "the same bits"
        tensors = [torch.tensor([[value]], dtype=torch.float64) for value in (0.25, *known)]
        assert columns[own.name](*tensors).item() == expected, "the same bits"
        # Thresholds scale with the masses: a threshold is a mass.
        doubled = [2 * known[0], 2 * known[1], known[2]]
        assert exact[own.name](0.25, *doubled) == pytest.approx(2 * expected, rel=1e-14)


@pytest.mark.parametrize("own", [own for own in FILTERS if own.name not in {"xtc", "joint"}], ids=lambda own: own.name)
def test_what_a_filter_needs_is_when_candidates_are_decided(own):
    (text,) = [row.decided_with_candidates for row in PARAMETERS if row.name == own.name]
    needs_total = bool(own.needs & Need.TOTAL) and not own.needs & Need.EACH
    assert ("at T = 1" in text) == needs_total
    assert ("at any temperature" in text) == (not own.needs & (Need.TOTAL | Need.EACH))
    assert (text == "never" or text.startswith("only after another filter")) == bool(own.needs & Need.EACH)


def test_filters_that_keep_the_first_are_those_that_leave_the_argmax():
    rows = {row.name: row for row in PARAMETERS}
    logits = np.random.default_rng(3).normal(size=(60, 12)) * 2
    for own in FILTERS:
        names = {"xtc": ["xtc_probability", "xtc_threshold"], "joint": ["top_k", "top_p"]}.get(own.name, [own.name])
        assert all(rows[name].changes_argmax == (not own.keeps_first) for name in names), own.name
        fields = {name: 3 if name == "top_k" else 0.1 for name in names}
        outcomes = reference.sample(request(logits, params=params(**fields)))
        keeps = [bool(outcome.processed.kept[0]) for outcome in outcomes]
        assert all(keeps) == own.keeps_first, own.name
