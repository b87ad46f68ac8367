"""Rows on boundaries: every sampler keeps the categories that the reference keeps, and of textbook rows the book's.

A parameter is set to what one category of the row has exactly: the mass of a prefix, a probability, a ratio. Until
masses were whole numbers (`sampling.masses`), such rows were decided by the rounding of each implementation's sums: of
200 with a top_p equal to a prefix's mass, 80 differed between two samplers.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from samplerd_server.core.enums import (
    Dtype,
    FilterStep,
    InputKind,
    LogprobKind,
    Order,
    RowErrorReason,
    TieRule,
    XtcExemption,
)
from samplerd_server.sampling.reference import pipeline as reference
from tests.support.samplers import draw, outputs, params, request, sparse

FILTERS = (
    *("top_p", "min_p", "top_a", "typical_p", "epsilon_cutoff", "eta_cutoff", "top_n_sigma", "xtc_threshold", "top_k"),
    "top_h",
)
DTYPES = (Dtype.F32, Dtype.F16, Dtype.BF16)


def kept_by(sampler, asked) -> set[int] | RowErrorReason:
    """The ids that a sampler kept."""
    got = draw(sampler, asked)
    if got.status[0]:
        return RowErrorReason(got.status[0])
    assert got.kept_count is not None
    kept = set(np.flatnonzero(got.named[LogprobKind.PROCESSED] > -np.inf).tolist())
    assert len(kept) == got.kept_count[0]
    return kept


def kept_by_reference(asked) -> set[int] | RowErrorReason:
    outcome = reference.sample(asked)[0]
    if outcome.reason != RowErrorReason.NONE:
        return outcome.reason
    assert outcome.processed is not None
    return set(outcome.processed.ids[outcome.processed.kept].tolist())


def ask(row, fields: dict, dtype: Dtype = Dtype.F32, kind: InputKind = InputKind.LOGITS, seed: int = 42):
    """A request whose answer names all that is kept."""
    own = outputs(LogprobKind.PROCESSED, named=range(len(row)), kept=True)
    return request(row, dtype, kind=kind, params=params(**fields), outputs=own, seed=seed)


def textbook(random: np.random.Generator, digits: int, longest: int) -> list[Fraction]:
    """Probabilities of so many decimals, the likeliest first; equal ones are as frequent as in books."""
    whole = 10**digits
    cuts = np.sort(random.choice(np.arange(1, whole), size=random.integers(1, longest), replace=False))
    parts = np.diff([0, *cuts.tolist(), whole])
    return [Fraction(int(part), whole) for part in sorted(parts, reverse=True)]


def as_row(p: list[Fraction], kind: InputKind, scale: float) -> np.ndarray:
    """The numbers that a client sends for probabilities: logits less a constant, or weights of any scale."""
    own = np.array([float(one) for one in p])
    return np.log(own) - scale if kind == InputKind.LOGITS else own * scale


KINDS = {"logits": InputKind.LOGITS, "weights": InputKind.PROBABILITIES}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("digits", "longest"), [(1, 6), (2, 12), (3, 12)])
def test_top_p_of_a_textbook_row_is_that_of_the_book(sampler, kind, digits, longest):
    """0.5 + 0.3 reaches 0.8, whatever float32 makes of ln 0.3."""
    random = np.random.default_rng(7 + digits)
    for _ in range(120):
        p = textbook(random, digits, longest)
        cut = int(random.integers(1, len(p))) if len(p) > 1 else 1
        top_p = float(sum(p[:cut]))
        asked = ask(as_row(p, KINDS[kind], random.choice([1.0, 0.5, 3.0])), {"top_p": top_p}, kind=KINDS[kind])
        assert kept_by(sampler, asked) == set(range(cut)), (p, top_p)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["min_p", "epsilon_cutoff", "top_a"])
def test_a_threshold_of_a_textbook_row_is_that_of_the_book(sampler, kind, name):
    random = np.random.default_rng(17)
    for _ in range(120):
        p = textbook(random, 2, 10)
        own = p[int(random.integers(0, len(p)))]
        threshold = {"min_p": own / p[0], "epsilon_cutoff": own, "top_a": own / p[0] ** 2}[name]
        if not threshold < 1:
            continue
        asked = ask(as_row(p, KINDS[kind], 1.0), {name: float(threshold)}, kind=KINDS[kind])
        assert kept_by(sampler, asked) == {at for at, one in enumerate(p) if one >= own}, (p, threshold)


def test_the_row_of_the_documentation(sampler):
    row = np.log([0.5, 0.3, 0.1, 0.1])
    assert kept_by(sampler, ask(row, {"top_p": 0.8})) == {0, 1}
    assert kept_by(sampler, ask(row, {"top_p": 0.801})) == {0, 1, 2}
    assert kept_by(sampler, ask(row, {"min_p": 0.6})) == {0, 1}
    assert kept_by(sampler, ask(row, {"epsilon_cutoff": 0.1})) == {0, 1, 2, 3}
    assert kept_by(sampler, ask(row, {"xtc_threshold": 0.3, "xtc_probability": 1.0})) == {1, 2, 3}
    assert kept_by(sampler, ask([0.0, 1.0, 2.0], {"top_n_sigma": 2 / math.sqrt(2 / 3)})) == {0, 1, 2}


def decoded(row, dtype: Dtype) -> np.ndarray:
    """The numbers that a dtype makes of a row."""
    own = np.asarray(row, np.float64)
    if dtype == Dtype.BF16:
        return ((own.astype("<f4").view("<u4") >> 16) << 16).astype("<u4").view("<f4").astype(np.float64)
    return own.astype({Dtype.F32: "<f4", Dtype.F16: "<f2"}[dtype]).astype(np.float64)


def on_boundary(random: np.random.Generator, numbers: np.ndarray, kind: InputKind, temperature: float, name: str):
    """What one category of the row has, as a parameter: at this value it is only just kept, or dropped."""
    with np.errstate(divide="ignore"):
        logits = np.log(numbers) if kind == InputKind.PROBABILITIES else numbers
    order = np.lexsort((np.arange(len(logits)), -logits))
    order = order[logits[order] > -np.inf]
    p = np.exp((logits[order] - logits[order[0]]) / temperature)
    p /= p.sum()
    at = int(random.integers(0, len(p)))
    entropy = -float((p[p > 0] * np.log(p[p > 0])).sum())
    if name == "top_p":
        value = p[: at + 1].sum()
    elif name == "typical_p":
        by_typicality = np.argsort(np.abs(-np.log(np.maximum(p, 1e-300)) - entropy), kind="stable")
        value = p[by_typicality[: at + 1]].sum()
    elif name == "top_h":
        terms = -p * np.log(np.maximum(p, 1e-300))
        value = terms[: at + 1].sum() / terms.sum() if terms.sum() > 0 else 0.5
    elif name == "min_p":
        value = p[at] / p[0]
    elif name == "top_a":
        value = p[at] / p[0] ** 2
    elif name == "eta_cutoff":
        value = max(p[at], (p[at] / math.exp(-entropy)) ** 2)
    elif name == "top_n_sigma":
        finite = logits[order]
        value = (finite[0] - finite[at]) / finite.std() if finite.std() > 0 else 1.0
    elif name == "top_k":
        return {"top_k": at + 1}
    else:
        value = p[at]
    limits = {
        "top_p": (1e-9, 0.999999),
        "typical_p": (1e-9, 0.999999),
        "top_h": (1e-9, 0.999999),
        "top_n_sigma": (1e-9, 1e9),
        "xtc_threshold": (0.0, 0.5),
    }
    low, high = limits.get(name, (0.0, 0.999999))
    value = float(np.clip(value, low, high))
    return xtc(random, value, len(numbers)) if name == "xtc_threshold" else {name: value}


def xtc(random: np.random.Generator, threshold: float, width: int) -> dict:
    """XTC that acts; every second time some tokens are exempt."""
    fields = {"xtc_threshold": threshold, "xtc_probability": 1.0}
    if random.random() < 0.5:
        fields["xtc_exempt_ids"] = random.integers(0, width, size=max(1, width // 3)).astype(np.int32)
        fields["xtc_exemption"] = random.choice(list(XtcExemption))
    return fields


def random_row(random: np.random.Generator, kind: InputKind, width: int) -> np.ndarray:
    """A row with ties: of few different values, textbook probabilities, or normal numbers of few digits."""
    shape = random.integers(0, 3)
    if shape == 0:
        row = random.choice(random.normal(size=max(2, width // 3)) * 2, size=width)
    elif shape == 1 and 1 < width <= 12:
        own = [float(one) for one in textbook(random, 2, width)]
        row = np.log(random.permutation(own))
    else:
        row = np.round(random.normal(size=width) * random.choice([0.5, 2.0, 6.0]), 1)
    return np.exp(row - row.max()) if kind == InputKind.PROBABILITIES else row


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda own: own.name)
def test_every_filter_keeps_what_the_reference_keeps_on_its_boundaries(sampler, kind, dtype):
    random = np.random.default_rng([3, int(dtype), KINDS[kind]])
    for trial in range(270):
        row = random_row(random, KINDS[kind], int(random.integers(1, 40)))
        temperature = float(random.choice([1.0, 1.0, 0.5, 0.8, 1.7]))
        fields = on_boundary(random, decoded(row, dtype), KINDS[kind], temperature, FILTERS[trial % len(FILTERS)])
        fields |= {"temperature": temperature, "min_tokens_to_keep": int(random.choice([1, 1, 1, 3]))}
        asked = ask(row, fields, dtype, KINDS[kind])
        assert kept_by(sampler, asked) == kept_by_reference(asked), (row.tolist(), fields)


@pytest.mark.parametrize("kind", KINDS)
def test_combinations_in_every_order_keep_what_the_reference_keeps(sampler, kind):
    random = np.random.default_rng([5, KINDS[kind]])
    for _ in range(240):
        row, dtype = random_row(random, KINDS[kind], int(random.integers(2, 60))), DTYPES[int(random.integers(0, 3))]
        temperature = float(random.choice([1.0, 0.6, 1.3]))
        fields: dict = {"temperature": temperature, "order": Order(int(random.choice(list(Order))))}
        for name in random.choice(FILTERS, size=int(random.integers(2, 5)), replace=False):
            fields |= on_boundary(random, decoded(row, dtype), KINDS[kind], temperature, name)
        if random.random() < 0.2:
            fields |= {"dynamic_temperature_range": temperature / 2, "dynamic_temperature_exponent": 0.7}
        if random.random() < 0.2:
            fields |= smoothing(random) | {"temperature": temperature}
        if random.random() < 0.3:
            fields |= {"history": random.integers(0, len(row), 5).astype(np.int32), "repetition_penalty": 1.3}
        asked = ask(row, fields, dtype, KINDS[kind])
        assert kept_by(sampler, asked) == kept_by_reference(asked), (row.tolist(), fields)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_judged_after_smoothing_keeps_what_the_reference_keeps(sampler, kind):
    """Boundaries of the bent row, which every sampler bends to the same bits."""
    random = np.random.default_rng([11, KINDS[kind]])
    for trial in range(160):
        row, dtype = random_row(random, KINDS[kind], int(random.integers(2, 40))), DTYPES[trial % 3]
        fields = smoothing(random)
        scaled = scaled_logits(ask(row, fields, dtype, KINDS[kind]))
        name = FILTERS[trial % len(FILTERS)]
        asked = ask(row, fields | on_boundary(random, scaled, InputKind.LOGITS, 1.0, name), dtype, KINDS[kind])
        assert kept_by(sampler, asked) == kept_by_reference(asked), (row.tolist(), asked.params)


@pytest.mark.parametrize("kind", KINDS)
def test_shaped_rows_have_the_same_logits_everywhere(sampler, kind):
    """Adaptive-p and skew are made of whole masses and of arithmetic without library calls: the same float32."""
    random = np.random.default_rng([13, KINDS[kind]])
    for trial in range(120):
        row, dtype = random_row(random, KINDS[kind], int(random.integers(2, 40))), DTYPES[trial % 3]
        shape = {"skew": float(random.normal())} if trial % 2 else {"adaptive_target": float(random.uniform(0.01, 1))}
        fields = {"temperature": float(random.choice([1.0, 0.6])), "top_k": int(random.integers(2, 9))} | shape
        asked = ask(row, fields, dtype, KINDS[kind])
        law = reference.sample(asked)[0].distributions[LogprobKind.PROCESSED]
        expected = np.array([law.of(token) for token in range(len(row))])
        got = draw(sampler, asked).named[LogprobKind.PROCESSED]
        finite = got > -np.inf
        assert (finite == (expected > -np.inf)).all(), fields
        gaps, own = got[finite] - got[finite].max(), expected[finite] - expected[finite].max()
        np.testing.assert_allclose(gaps, own, rtol=1e-6, atol=2e-6, err_msg=str(fields))


def smoothing(random: np.random.Generator) -> dict:
    return {
        "temperature": float(random.choice([1.0, 0.6, 1.3])),
        "smoothing_factor": float(random.choice([0.01, 0.3, 2.7])),
        "smoothing_curve": float(random.choice([1.0, 1.9, 3.0, 6.5])),
    }


def scaled_logits(asked) -> np.ndarray:
    """Ln p of each category before the filters."""
    return reference.sample(asked)[0].distributions[LogprobKind.SCALED].logprobs


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_free_orders_and_ties_keep_what_the_reference_keeps(sampler, kind, temperature):
    """Any steps, the temperature anywhere, on boundaries, with every rule about equals."""
    random = np.random.default_rng([29, KINDS[kind], int(temperature * 10)])
    for _ in range(240):
        row, dtype = random_row(random, KINDS[kind], int(random.integers(2, 60))), DTYPES[int(random.integers(0, 3))]
        fields: dict = {"temperature": temperature, "ties": TieRule(int(random.choice(list(TieRule))))}
        if random.random() < 0.7:
            fields["steps"] = random.permutation(list(FilterStep)).astype(np.int32)
        else:
            fields["order"] = Order(int(random.choice(list(Order))))
        for name in random.choice(FILTERS, size=int(random.integers(1, 5)), replace=False):
            fields |= on_boundary(random, decoded(row, dtype), KINDS[kind], float(random.choice([1.0, 0.7])), name)
        if temperature and random.random() < 0.3:
            fields |= {"dynamic_temperature_range": float(random.choice([temperature / 2, temperature * 2]))}
            fields |= {"dynamic_temperature_counts_all": bool(random.random() < 0.5)}
        if random.random() < 0.2:
            fields |= smoothing(random) | {"temperature": temperature}
        if random.random() < 0.3:
            fields |= {"min_tokens_to_keep": 3, "top_k_is_exact": bool(random.random() < 0.5)}
        asked = ask(row, fields, dtype, KINDS[kind])
        assert kept_by(sampler, asked) == kept_by_reference(asked), (row.tolist(), fields)


def test_candidates_in_free_orders_keep_what_the_reference_keeps(sampler):
    random = np.random.default_rng(31)
    decided = 0
    for _ in range(300):
        p = textbook(random, 2, 12)
        row = np.log([float(one) for one in p]).astype(np.float32)
        fields: dict = {"steps": random.permutation(list(FilterStep)).astype(np.int32)}
        fields |= {"temperature": float(random.choice([0.0, 0.7, 1.0])), "ties": TieRule(int(random.integers(1, 6)))}
        for name in random.choice(["top_k", "min_p", "top_p", "xtc_threshold"], size=2, replace=False):
            fields |= on_boundary(random, row.astype(np.float64), InputKind.LOGITS, 1.0, name)
        if random.random() < 0.2:
            fields |= smoothing(random) | {"temperature": fields["temperature"]}
        sent = int(random.integers(1, len(p) + 1))
        rest = math.log(math.fsum(np.exp(row[sent:].astype(np.float64)))) if sent < len(p) else -math.inf
        own = outputs(LogprobKind.PROCESSED, named=range(sent), kept=True)
        ids, kept = list(range(sent)), row[:sent].tolist()
        asked = sparse(ids, kept, rest, len(p), params=params(**fields), outputs=own, seed=42)
        got, want = draw(sampler, asked), reference.sample(asked)[0]
        assert RowErrorReason(got.status[0]) == want.reason, (p, fields, sent)
        if want.reason == RowErrorReason.NONE:
            decided += 1
            assert got.samples.tolist() == list(want.samples), (p, fields, sent)
            assert got.kept_count is not None
            assert got.kept_count[0] == want.kept_count, (p, fields, sent)
    assert decided > 100


@pytest.mark.parametrize("width", [5_000, 32_768, 151_936])
def test_long_rows_keep_what_the_reference_keeps_on_their_boundaries(sampler, width):
    random = np.random.default_rng(width)
    for trial, name in enumerate(FILTERS):
        kind = InputKind.LOGITS if trial % 3 else InputKind.PROBABILITIES
        dtype = DTYPES[trial % 2 * 2]
        row = random.normal(size=width) * (1.0 if trial % 2 else 3.0)
        row = np.exp(row - row.max()) if kind == InputKind.PROBABILITIES else row
        asked = ask(row, on_boundary(random, decoded(row, dtype), kind, 1.0, name), dtype, kind)
        assert kept_by(sampler, asked) == kept_by_reference(asked), name


def test_candidates_are_cut_where_the_whole_row_is(sampler):
    """What the client sent of a row decides at a boundary as the row does, or says that it cannot."""
    random = np.random.default_rng(23)
    decided = 0
    for trial in range(240):
        p = textbook(random, 2, 10)
        row = np.log([float(one) for one in p]).astype(np.float32)
        fields = on_boundary(
            random, row.astype(np.float64), InputKind.LOGITS, 1.0, ("top_p", "min_p", "top_k")[trial % 3]
        )
        if 0.0 in fields.values():
            continue  # the filter is off
        whole = ask(row, fields)
        sent = int(random.integers(1, len(p) + 1))
        rest = math.log(math.fsum(np.exp(row[sent:].astype(np.float64)))) if sent < len(p) else -math.inf
        asked = sparse(
            list(range(sent)),
            row[:sent].tolist(),
            rest,
            len(p),
            params=params(**fields),
            outputs=whole.outputs,
            seed=42,
        )
        kept = kept_by_reference(asked)
        assert kept_by(sampler, asked) == kept, (p, fields, sent)
        if isinstance(kept, set):
            decided += 1
            assert kept == kept_by_reference(whole), (p, fields, sent)
    assert decided > 100


def test_cuts_of_long_random_rows_are_those_of_exact_sums():
    """Neither whole numbers nor rule 2 move a cut of a random row, judged by sums of 80 bits or more."""
    random = np.random.default_rng(1)
    assert np.finfo(np.longdouble).nmant > 60, "without long doubles there is nothing exact to compare with"
    for deviation, temperature in ((3.0, 0.8), (1.0, 1.0), (0.3, 1.5)):
        for _ in range(20):
            row = np.sort(random.normal(scale=deviation, size=32_768).astype(np.float32))[::-1]
            exact = np.cumsum(np.exp((row.astype(np.longdouble) - row[0]) / np.longdouble(temperature)))
            for top_p in (0.5, 0.9, 0.99):
                asked = request(row, params=params(top_p=top_p, temperature=temperature), outputs=outputs(kept=True))
                expected = int(np.searchsorted(exact, np.longdouble(top_p) * exact[-1])) + 1
                assert reference.sample(asked)[0].kept_count == expected


def test_top_h_of_a_row_that_is_nearly_certain(sampler):
    """Terms of 1e-10 and less are added like any others; a row that is certain keeps its first alone."""
    row = np.array([0.0, math.log(1e-10), math.log(1e-12)])
    for top_h, kept in ((0.02, {0}), (0.99, {0, 1}), (0.9999, {0, 1})):
        asked = ask(row, {"top_h": top_h})
        assert kept_by_reference(asked) == kept
        assert kept_by(sampler, asked) == kept
    certain = ask([100.0, 0.0, 0.0, -1.0], {"top_h": 0.5})
    assert kept_by_reference(certain) == kept_by(sampler, certain) == {0}
