"""What is drawn is counted by a few labels, whatever a request says."""

from __future__ import annotations

import dataclasses
import sys
import weakref

import numpy as np
import pytest

from samplerd_server.core.enums import Dtype, InputKind
from samplerd_server.core.params import Dry, SamplingParams
from samplerd_server.core.request import SampleRequest, VerifyRequest
from samplerd_server.core.rows import CandidateRow, CandidateRows, DenseRows, StoredRows
from samplerd_server.metrics.labels import FILTER
from samplerd_server.metrics.metrics import Metrics
from samplerd_server.transport.rpc.workload import Workload, filters_of
from tests.support.metric_table import family_of

PLAIN = SamplingParams()


def dense(rows=2, vocab_size=100, dtype=Dtype.F32):
    return DenseRows(dtype=dtype, rows=rows, vocab_size=vocab_size, data=bytes(rows * vocab_size * dtype.itemsize))


def request(source=None, params=(PLAIN,), **other):
    return SampleRequest(id=1, source=source or dense(), params=params, **other)


def counted(*requests):
    metrics = Metrics()
    workload = Workload(metrics)
    for own in requests:
        workload.count(own)
    families = metrics.source_rows, metrics.dtype_rows, metrics.vocabulary_rows, metrics.filter_rows
    samples = [sample for own in families for sample in family_of(own).samples if sample.value]
    return {next(iter(sample.labels.values())): sample.value for sample in samples}


STORED = StoredRows(
    name="d",
    kind=InputKind.PROBABILITIES,
    dtype=Dtype.BF16,
    rows=3,
    vocab_size=70_000,
    data=b"",
    params=None,
    cdf_index=None,
    address=0,
)
CANDIDATES = CandidateRows(
    vocab_size=262_145,
    candidates=(CandidateRow(ids=np.arange(2, dtype=np.int32), logits=np.zeros(2, np.float32), rest_logsumexp=0.0),),
)


@pytest.mark.parametrize(
    ("own", "labels"),
    [
        (request(), {"logits": 2, "f32": 2, "1024": 2, "none": 2}),
        (request(dense(1, 1024, Dtype.F16)), {"logits": 1, "f16": 1, "1024": 1, "none": 1}),
        (request(dense(1, 1025, Dtype.F64)), {"logits": 1, "f64": 1, "16384": 1, "none": 1}),
        (request(kind=InputKind.PROBABILITIES), {"probabilities": 2, "f32": 2, "1024": 2, "none": 2}),
        (request(load=lambda: None), {"shared_memory": 2, "f32": 2, "1024": 2, "none": 2}),
        (request(STORED), {"distribution": 3, "bf16": 3, "131072": 3, "none": 3}),
        (request(CANDIDATES), {"candidates": 1, "f32": 1, "any": 1, "none": 1}),
    ],
)
def test_a_request_counts_its_rows_under_one_label_of_each_kind(own, labels):
    assert counted(own) == labels


def test_a_row_counts_under_each_of_its_filters_and_each_row_has_its_own():
    both = SamplingParams(is_plain=False, top_k=5, top_p=0.5)
    bent = SamplingParams(is_plain=False, smoothing_factor=1.0)
    found = counted(request(params=(both,)), request(params=(both, bent)))
    assert {name: found.get(name) for name in ("top_k", "top_p", "temperature", "none")} == {
        "top_k": 3,
        "top_p": 3,
        "temperature": 1,
        "none": None,
    }


def test_a_draft_counts_the_rows_of_its_target():
    draft = VerifyRequest(
        id=1, target=request(dense(3)), draft_ids=np.zeros(2, np.int32), parents=np.zeros(2, np.int32), draft=None
    )
    assert counted(draft)["logits"] == 3


SET = {
    "top_k": {"top_k": 1},
    "top_p": {"top_p": 0.5},
    "min_p": {"min_p": 0.5},
    "top_a": {"top_a": 0.5},
    "typical_p": {"typical_p": 0.5},
    "epsilon_cutoff": {"epsilon_cutoff": 0.1},
    "eta_cutoff": {"eta_cutoff": 0.1},
    "top_h": {"top_h": 0.5},
    "top_n_sigma": {"top_n_sigma": 1.0},
    "xtc": {"xtc_probability": 0.5, "xtc_threshold": 0.1},
    "temperature": {"skew": 0.5},
    "penalty": {"presence_penalty": 0.5},
    "dry": {"dry": Dry(multiplier=1.0)},
    "bias": {"bias_ids": np.zeros(1, np.int32)},
    "mask": {"bad_words_ids": np.zeros(1, np.int32)},
    "guidance": {"guidance_scale": 2.0},
}


@pytest.mark.parametrize("name", SET)
def test_each_filter_has_its_label(name):
    assert filters_of(dataclasses.replace(PLAIN, is_plain=False, **SET[name])) == (name,)


def test_every_label_is_tried():
    assert set(FILTER.values) - set(SET) == {"none"}


def test_parameters_of_no_effect_count_as_none():
    assert filters_of(dataclasses.replace(PLAIN, is_plain=False, min_tokens_to_keep=2)) == ("none",)


def test_many_parameters_are_forgotten_and_counted_right():
    metrics = Metrics()
    workload = Workload(metrics)
    for k in range(3000):
        workload.count(request(params=(SamplingParams(is_plain=False, top_k=k % 7 + 1),)))
    assert metrics.filter_rows.value("top_k") == 6000


@pytest.mark.parametrize("name", ["history", "bias_ids", "allowed_tokens", "bad_words_ids", "xtc_exempt_ids"])
def test_lists_of_a_request_are_not_kept_after_it(name):
    workload = Workload(Metrics())
    ids = np.zeros(1000, np.int32)
    kept = weakref.ref(ids)
    workload.count(request(params=(SamplingParams(is_plain=False, presence_penalty=0.5, **{name: ids}),)))
    del ids
    assert kept() is None


def test_a_bitmask_is_not_kept_after_its_request():
    workload = Workload(Metrics())
    mask = bytes(1000)
    before = sys.getrefcount(mask)
    workload.count(request(params=(SamplingParams(is_plain=False, token_bitmask=mask),)))
    assert sys.getrefcount(mask) == before
