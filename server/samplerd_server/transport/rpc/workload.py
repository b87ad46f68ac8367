"""Counts what is drawn: where rows come from, how they are stored, how large their vocabulary is, what filters them.

Every label is one of a fixed few. On the event loop, once a request.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import fields
from enum import Enum
from typing import TYPE_CHECKING

from samplerd_server.core.enums import Dtype, InputKind
from samplerd_server.core.params import SamplingParams
from samplerd_server.core.request import VerifyRequest
from samplerd_server.core.rows import CandidateRows, StoredRows
from samplerd_server.metrics.labels import FILTER, SOURCE, VOCABULARY
from samplerd_server.sampling.parameters import FILTERS

if TYPE_CHECKING:
    from samplerd_server.core.request import SampleRequest
    from samplerd_server.metrics.instruments import Cell
    from samplerd_server.metrics.metrics import Metrics

__all__ = ["Workload", "filters_of"]

_SIZES = tuple(int(size) for size in VOCABULARY.values if size.isdigit())
_MAX_KNOWN = 1024
"""The most parameters whose filters are remembered: those of the decoder's cache."""
_FIELDS = tuple(field.name for field in fields(SamplingParams))
_SCALARS = (int, float, Enum, type(None))


class Workload:
    """What the admitted requests ask for."""

    def __init__(self, metrics: Metrics) -> None:
        self._sources = {name: metrics.source_rows.cell(name) for name in SOURCE.values}
        self._dtypes = {dtype: metrics.dtype_rows.cell(dtype.name.lower()) for dtype in Dtype}
        self._sizes = tuple(map(metrics.vocabulary_rows.cell, VOCABULARY.values))
        self._filters = {name: metrics.filter_rows.cell(name) for name in FILTER.values}
        self._plain = self._filters["none"]
        self._known: dict[int, tuple[SamplingParams, tuple[Cell, ...]]] = {}
        """By identity: the decoder gives requests of the same parameters the same object. Parameters with a list are
        left out, or a history would be kept long after its request."""

    def count(self, request: SampleRequest | VerifyRequest) -> None:
        """Count the rows of a request."""
        if isinstance(request, VerifyRequest):
            request = request.target
        source, params = request.source, request.params
        rows = source.rows
        dtype = Dtype.F32 if isinstance(source, CandidateRows) else source.dtype
        self._sources[_source_of(request)].value += rows
        self._dtypes[dtype].value += rows
        self._sizes[bisect_left(_SIZES, source.vocab_size)].value += rows
        if len(params) == 1 and params[0].is_plain:
            self._plain.value += rows
            return
        each = rows if len(params) == 1 else 1
        for own in params:
            if own.is_plain:
                self._plain.value += each
            else:
                for cell in self._cells_of(own):
                    cell.value += each

    def _cells_of(self, params: SamplingParams) -> tuple[Cell, ...]:
        found = self._known.get(id(params))
        if found is not None:
            return found[1]
        cells = tuple(self._filters[name] for name in filters_of(params))
        if all(isinstance(getattr(params, name), _SCALARS) for name in _FIELDS):
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[id(params)] = params, cells  # kept alive, so that the identity stays its own
        return cells


def _source_of(request: SampleRequest) -> str:
    if isinstance(request.source, StoredRows):
        return "distribution"
    if isinstance(request.source, CandidateRows):
        return "candidates"
    if request.load is not None:
        return "shared_memory"
    return "probabilities" if request.kind is InputKind.PROBABILITIES else "logits"


def filters_of(params: SamplingParams) -> tuple[str, ...]:
    """Name the filters, penalties and masks that are set, by the labels of `samplerd_filter_rows_total`."""
    found = {own.name for own in FILTERS if own.is_on(params)}
    shapes = params.dynamic_temperature_range, params.smoothing_factor, params.adaptive_target, params.skew
    masks = params.allowed_tokens, params.token_bitmask, params.bad_words_ids
    groups = {
        "temperature": any(shapes),
        "penalty": (params.repetition_penalty, params.frequency_penalty, params.presence_penalty) != (1.0, 0.0, 0.0),
        "dry": params.dry is not None and params.dry.multiplier != 0,
        "bias": params.bias_ids is not None,
        "mask": params.no_repeat_ngram_size > 0 or any(own is not None for own in masks),
        "guidance": params.guidance_scale != 1.0,
    }
    found |= {name for name, is_set in groups.items() if is_set}
    return tuple(name for name in FILTER.values if name in found) or ("none",)
