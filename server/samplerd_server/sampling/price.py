"""The price of a row: how long it takes to draw from it, predicted from its fields alone.

One formula (`row_price`) for everything that must know beforehand what a row costs: admission and the fair shares of
the queue, the limit of draws on the event loop, the slices of a long request, and the shares of threads. It is written
with plain arithmetic, so that it is also compiled as it stands (`kernels/partition.py`). Every field of the contract
that costs time has a coefficient here.

Unit: nanoseconds on the machine of `benchmarks/results/laws/price.json`, one core, compiled kernels. Other machines and
samplers differ by a factor that the cost model learns. Prices are those of usual rows: filters that keep little, rows
that lie in memory, lists of their own (one that all rows of a request share is priced for each, and worked out once).
`python -m benchmarks price` measures every field against its price.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from samplerd_server.core.enums import InputKind, LogprobKind
from samplerd_server.core.outputs import NO_OUTPUTS, OutputFlags
from samplerd_server.core.rows import CandidateRows
from samplerd_server.sampling.parameters import FILTERS, early_filters
from samplerd_server.sampling.parameters.record import LISTS, lists_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from samplerd_server.core.outputs import Outputs
    from samplerd_server.core.params import SamplingParams
    from samplerd_server.core.request import SampleRequest
    from samplerd_server.core.rows import DenseRows, StoredRows

__all__ = [
    "BREAKER_FACTOR",
    "INDEXED_DRAW",
    "LIGHT_FILTERS",
    "SPARSE_FACTOR",
    "RowPrice",
    "bent_price",
    "draft_work",
    "listed_price",
    "prices_of",
    "row_price",
    "shaped_price",
    "work_of",
]

INDEXED_DRAW = 40
"""A draw from a CDF index."""
_ROW, _NUMBER, _DRAW = 400.0, 0.7, 350.0
"""A row of its own; each of its numbers, read and weighed once; a draw, which searches one block again."""
_POWER, _POWER_DRAW = 2.5, 1100.0
"""What a number and a draw cost more where masses are w^(1/T): each takes a logarithm and a power in binary64."""
_FULL = 0.8
"""A number of a row that is not plain: it is copied, and adjusted there."""
_LIGHT_FILTER, _FILTER = 0.5, 11.0
"""A number that filters look at: top_k and min_p first look at blocks, all others at every number that can be drawn."""
_SPARSE = 3.0
"""A candidate: its id is read and compared with the one before."""
_GUIDED = 6.0
"""A number that another one guides: both are weighed in binary64."""
_BENT, _DYNAMIC = 1.5, 3
"""A number that smoothing bends; as many of them as one that a dynamic temperature counts in."""
_SHAPED, _SKEWED = 6.5, 4
"""A number that adaptive-p gives a new logit; as many of them as one that skew does, which sorts."""
_ID, _SPARSE_ID = 3.0, 13.5
"""An id of a list: a write somewhere in the row; with candidates, a search."""
_DRY = 8.0
"""A token that is compared with others: of history by DRY or no_repeat_ngram_size, of DRY's breaker sequences."""
_LOGPROBS, _ENTROPY, _KEPT = 0.8, 2.2, 1.0
"""A number of the row, for each kind of log-probabilities and of entropies, and for the kept mass; the state of
adaptive-p sums as many masses as that."""
_POWER_ENTROPY = 1.0
"""What a number of an entropy costs more where masses are w^(1/T): each takes a logarithm and a power in binary64.
Where nothing is filtered, two of the three kinds are one distribution, and are worked out once."""
_RANK, _RANKS = 0.2, 6.0
"""A number of the row, for the rank of each draw, and for those of all draws at the most."""
_DRAW_LOGPROBS, _DRAW_RANK = 15.0, 100.0
"""A draw, for each kind of log-probabilities and for the state of adaptive-p; and for ranks."""
_TOP, _NAMED, _SPARSE_NAMED = 500.0, 8.0, 100.0
"""One of the most likely; a named id; a named id of candidates, which is searched; all for each kind."""
_WITHOUT = 150.0
"""What a draw without replacement costs more, where it is the first one of its block."""
_WEIGHTS = int(InputKind.PROBABILITIES)
_LOGPROB_BITS = tuple(int(OutputFlags.RAW) << (kind - 1) for kind in LogprobKind)
_ENTROPY_BITS = tuple(int(OutputFlags.ENTROPY_RAW) << (kind - 1) for kind in LogprobKind)
_RANK_BIT, _KEPT_BIT, _ADAPTIVE_BIT = int(OutputFlags.RANK), int(OutputFlags.KEPT), int(OutputFlags.ADAPTIVE)
LIGHT_FILTERS = ("top_k", "min_p")
"""Filters that first look at blocks, so that they read few numbers, and all filters after them too."""
BREAKER_FACTOR = 3
"""How many tokens that are compared a token of a breaker sequence costs, which is laid out as a tree."""
SPARSE_FACTOR = _SPARSE_ID / _ID
"""How many ids of a dense row an id of a sparse row costs."""


class RowPrice(NamedTuple):
    """The price of one row, in nanoseconds (see the module)."""

    once: float
    """What it costs before the first draw, and again in every slice that draws from it."""
    per_draw: float
    """Each draw."""

    def total(self, draws: int) -> float:
        """Price of the row with this many draws."""
        return self.once + draws * self.per_draw


def row_price(  # noqa: PLR0917  # compiled code has no keywords
    numbers: Any,
    is_power: Any,
    is_plain: Any,
    is_sparse: Any,
    without: Any,
    draws: Any,
    flags: Any,
    filters: Any,
    guided: Any,
    bent: Any,
    shaped: Any,
    ids: Any,
    compared: Any,
    listed: Any,
) -> tuple[float, float]:
    """Price one row. Also compiled: plain arithmetic only.

    Args:
        numbers: how many the row holds.
        is_power: whether masses are w^(1/T): weights, T neither 0 nor 1.
        is_plain: whether temperature is the only parameter, and no output of the cold part is asked for.
        is_sparse: whether it holds candidates.
        without: whether it is drawn without replacement.
        draws: how many are made at a time.
        flags: `OutputFlags` as an integer.
        filters: 0 = none is on; 1 = one that looks at few numbers comes first; 2 = others only.
        guided: whether guidance_scale is not 1.
        bent: what `bent_price` says.
        shaped: what `shaped_price` says.
        ids: the items of all lists together, those of a sparse row counted `SPARSE_FACTOR` times.
        compared: tokens that are compared with others (`_DRY`).
        listed: nanoseconds of the most likely and of named ids, for one kind.

    Returns:
        once and per_draw of `RowPrice`.

    """
    number = _NUMBER + _POWER * is_power
    draw = _DRAW + _POWER_DRAW * is_power + _WITHOUT * without
    if is_plain and flags == 0:
        return _ROW + number * numbers, draw
    number += _FULL * (1 - is_plain) + _SPARSE * is_sparse + _GUIDED * guided + _BENT * bent + _SHAPED * shaped
    if filters:
        number += _LIGHT_FILTER if filters == 1 else _FILTER
    kinds = 0
    for bit in _LOGPROB_BITS:
        kinds += flags & bit != 0
    for bit in _ENTROPY_BITS:
        number += (_ENTROPY + _POWER_ENTROPY * is_power) * (flags & bit != 0)
    has_rank = flags & _RANK_BIT != 0
    has_state = flags & _ADAPTIVE_BIT != 0
    number += kinds * (_LOGPROBS + _POWER * is_power) + _KEPT * (flags & _KEPT_BIT != 0) + _KEPT * has_state
    if has_rank:
        number += min(_RANK * draws, _RANKS)
        draw += _DRAW_RANK
    draw += (kinds + has_state) * _DRAW_LOGPROBS
    return _ROW + number * numbers + _ID * ids + _DRY * compared + kinds * listed, draw


def shaped_price(row: Any) -> Any:
    """Price what shapes the draw, in units of what adaptive-p costs. Also compiled."""
    return (row.adaptive_target > 0) + _SKEWED * (row.skew != 0)


def bent_price(row: Any) -> Any:
    """Price what changes the logits or the temperature, in units of what smoothing costs. Also compiled."""
    return (row.smoothing_factor > 0) + _DYNAMIC * (row.dynamic_temperature_range > 0)


def listed_price(top_n: Any, named: Any, is_sparse: Any) -> Any:
    """Price the most likely and the named ids of one kind. Also compiled."""
    return top_n * _TOP + named * (_SPARSE_NAMED if is_sparse else _NAMED)


class _Facts(NamedTuple):
    """What the price of a row takes from its parameters."""

    filters: int
    guided: int
    bent: int
    shaped: int
    ids: int
    compared: int


_NO_FACTS = _Facts(0, 0, 0, 0, 0, 0)


def _facts(params: SamplingParams) -> _Facts:
    if params.is_plain:
        return _NO_FACTS
    filters = 0
    on = [own for own in FILTERS if own.is_on(params)]
    if on and (not params.is_greedy or early_filters(params)):
        filters = 1 if any(own.name in LIGHT_FILTERS for own in on) else 2
    ids = sum(
        0 if values is None else len(values) // own.unit for own, values in zip(LISTS, lists_of(params), strict=True)
    )
    compared = 0
    if params.dry is not None and params.history is not None:
        compared = min(len(params.history), params.dry.range or len(params.history))
        if params.dry.breaker_sequences_ids is not None:
            compared += BREAKER_FACTOR * len(params.dry.breaker_sequences_ids)
    if params.no_repeat_ngram_size > 1 and params.history is not None:
        compared += len(params.history)
    bent = 0 if params.is_greedy else int(bent_price(params))
    shaped = 0 if params.is_greedy else int(shaped_price(params))
    return _Facts(filters, int(params.guidance_scale != 1.0), bent, shaped, ids, compared)


def _price(  # noqa: PLR0917  # one row is said by these
    numbers: float,
    params: SamplingParams,
    kind: int,
    without: bool,  # noqa: FBT001
    outputs: Outputs,
    is_sparse: bool,  # noqa: FBT001
    draws: int,
) -> RowPrice:
    filters, guided, bent, shaped, ids, compared = _facts(params)
    named = 0 if outputs.logprob_ids is None else len(outputs.logprob_ids)
    is_power = kind == _WEIGHTS and params.temperature not in {0.0, 1.0}
    is_plain = params.is_plain and not is_sparse and not outputs.top_n and not named
    once, per_draw = row_price(
        numbers,
        is_power,
        is_plain,
        is_sparse,
        without,
        draws,
        int(outputs.output_flags),
        filters,
        guided,
        bent,
        shaped,
        ids * (SPARSE_FACTOR if is_sparse else 1.0),
        compared,
        listed_price(outputs.top_n, named, is_sparse),
    )
    return RowPrice(once, per_draw)


def prices_of(request: SampleRequest) -> tuple[RowPrice, ...]:
    """Price the rows of a request: one price for all of them, or one for each.

    Rows that are drawn by a CDF index cost their draws alone.
    """
    if request.cdf_index is not None:
        return (RowPrice(0.0, INDEXED_DRAW),)
    source, params, draws = request.source, request.params, request.num_samples
    own = (int(request.kind), not request.with_replacement, request.outputs)
    if isinstance(source, CandidateRows):
        widths = [len(row.ids) for row in source.candidates]
        each = params if len(params) > 1 else params * len(widths)
        return tuple(_price(width, row, *own, True, draws) for width, row in zip(widths, each, strict=True))  # noqa: FBT003
    return tuple(_price(source.vocab_size, row, *own, False, draws) for row in params)  # noqa: FBT003


def work_of(  # noqa: PLR0917  # what a request says that costs time
    source: DenseRows | CandidateRows | StoredRows,
    num_samples: int,
    params: Sequence[SamplingParams],
    kind: InputKind,
    with_replacement: bool,  # noqa: FBT001
    outputs: Outputs,
) -> int:
    """Price a whole request, in nanoseconds (see the module)."""
    rows = source.rows
    is_sparse = isinstance(source, CandidateRows)
    numbers = source.size_bytes / (8 * rows) if is_sparse else source.vocab_size
    if outputs is NO_OUTPUTS and len(params) == 1 and params[0].is_plain and not is_sparse and kind != _WEIGHTS:
        draw = _DRAW if with_replacement else _DRAW + _WITHOUT
        return int(rows * (_ROW + _NUMBER * numbers + num_samples * draw))
    prices = [_price(numbers, row, int(kind), not with_replacement, outputs, is_sparse, num_samples) for row in params]
    total = sum(own.total(num_samples) for own in prices)
    return int(total * rows if len(prices) == 1 else total)


def draft_work(numbers: int, drafted_numbers: int) -> int:
    """Price what verification adds to the price of the target's rows.

    Args:
        numbers: of the target's rows together: each is copied, weighed, and perhaps subtracted from.
        drafted_numbers: of the draft's rows together.

    """
    return int(numbers * (_FULL + 2 * _NUMBER) + drafted_numbers * 2 * _NUMBER)
