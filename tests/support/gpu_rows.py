"""Rows for the kernels for a GPU, and their answers beside those of the compiled kernels of the CPU: every bit.

The kernels run in Triton's interpreter, or on a CUDA device (`tests/gpu/test_triton.py`). Rows are made of a few
values, which is what a failure shows.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st

from samplerd_server.batching.pack import pack
from samplerd_server.core.enums import (
    Dtype,
    FilterStep,
    InputKind,
    LogprobKind,
    Order,
    PenaltyScope,
    TieRule,
    XtcExemption,
)
from samplerd_server.core.outputs import NO_OUTPUTS
from samplerd_server.core.params import Dry
from samplerd_server.sampling.rows import new_results
from tests.support.samplers import encode, make_sampler, outputs, params, request, sequence_lists, sparse

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from samplerd_server.core.outputs import Outputs
    from samplerd_server.core.params import SamplingParams
    from samplerd_server.core.request import SampleRequest
    from samplerd_server.sampling.rows import RowResults

LOGITS, WEIGHTS = InputKind.LOGITS, InputKind.PROBABILITIES
NEVER = float("-inf")
KINDS = tuple(LogprobKind)
TEMPERATURES = (0.0, 1e-8, 0.3, 0.8, 1.0, 1.7, 50.0, 1e6, 1e25)


@dataclasses.dataclass(frozen=True)
class Row:
    """A row, by what it is made of."""

    seed: int
    width: int
    kind: InputKind
    dtype: Dtype
    scale: float
    never: float
    """Share of the numbers that are forbidden."""
    has_ties: bool
    fault: float | None
    draws: int
    temperature: float
    wanted: Outputs
    parameters: Any = ()
    """Pairs of names and values."""
    with_replacement: bool = True
    guidance: tuple[Dtype, float | None] | None = None
    """The dtype of a guidance row, and what is wrong with it."""
    is_sparse: bool = False
    """Whether some of the numbers are sent as candidates, and there is no rest; then they are float32 logits."""

    def numbers(self, seed: int = 0, fault: float | None = None) -> NDArray[np.float64]:
        rng = np.random.default_rng([self.seed, seed] if seed else self.seed)
        x = rng.normal(scale=self.scale, size=self.width)
        if self.has_ties:
            x = np.round(x * 2) / 2
        if self.kind is WEIGHTS:
            x = np.abs(x)
        x[rng.random(self.width) < self.never] = 0.0 if self.kind is WEIGHTS else NEVER
        fault = fault if seed else self.fault
        if fault is not None:
            x[rng.integers(self.width)] = fault
        return x

    def ask(self) -> SampleRequest:
        own = params(temperature=self.temperature, **self._possible())
        if self.is_sparse:
            return self._ask_candidates(own)
        by = None if self.guidance is None else encode(self.numbers(1, self.guidance[1]), self.guidance[0])
        return request(
            self.numbers(),
            self.dtype,
            kind=self.kind,
            params=own,
            outputs=self.wanted,
            num_samples=self.draws,
            seed=self.seed,
            with_replacement=self.with_replacement,
            guidance=by,
        )

    def _possible(self) -> dict[str, Any]:
        """What the decoder lets pass: it refuses a dynamic temperature around 0."""
        own = dict(self.parameters)
        if self.temperature == 0:
            own.pop("dynamic_temperature_range", None)
        return own

    def _ask_candidates(self, own: SamplingParams) -> SampleRequest:
        x = dataclasses.replace(self, kind=LOGITS).numbers()
        ids = np.flatnonzero(np.random.default_rng(self.seed).random(self.width) < 0.6)
        ids = ids if len(ids) else np.arange(1)
        return sparse(
            ids.tolist(),
            x[ids].tolist(),
            NEVER,
            self.width,
            params=own,
            outputs=self.wanted,
            num_samples=self.draws,
            seed=self.seed,
            with_replacement=self.with_replacement,
        )


def rows(*, most: int = 3, **own: Any) -> st.SearchStrategy[list[Row]]:
    """Batches of such rows; what is not named is of the usual variety."""
    usual = {
        "seed": st.integers(0, 2**64 - 1),
        "width": st.one_of(st.integers(1, 40), st.sampled_from((511, 512, 513, 1_500))),
        "kind": st.sampled_from((LOGITS, LOGITS, WEIGHTS)),
        "dtype": st.sampled_from(tuple(Dtype)),
        "scale": st.sampled_from((0.01, 1.0, 6.0)),
        "never": st.sampled_from((0.0, 0.3, 0.99)),
        "has_ties": st.booleans(),
        "fault": st.sampled_from((None,) * 12 + (math.nan, math.inf)),
        "draws": st.sampled_from((1, 2)),
        "temperature": st.sampled_from(TEMPERATURES),
        "wanted": st.just(NO_OUTPUTS),
    }
    return st.lists(st.builds(Row, **{**usual, **own}), min_size=1, max_size=most)


def some_outputs() -> st.SearchStrategy[Outputs]:
    """Any mix of outputs but the state of adaptive-p."""
    kinds = st.sets(st.sampled_from(KINDS)).map(tuple)
    return st.builds(
        lambda own, entropy, top_n, named, rank, kept: outputs(
            *own, entropy=entropy, top_n=top_n if own else 0, named=named if own else None, rank=rank, kept=kept
        ),
        kinds,
        kinds,
        st.sampled_from((0, 1, 5)),
        st.sampled_from((None, [0], [0, 0])),
        st.booleans(),
        st.booleans(),
    )


def chosen(*choices: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Choose one value of each parameter: those that are named in any of the choices together."""
    return st.sampled_from(choices).flatmap(
        lambda own: st.tuples(*(st.tuples(st.just(name), st.sampled_from(values)) for name, values in own.items()))
    )


def same_bits(got: RowResults, want: RowResults) -> None:
    """Hold results against others, output by output, as bytes."""
    for own in dataclasses.fields(got):
        mine, other = getattr(got, own.name), getattr(want, own.name)
        for kind, values, expected in _pairs(mine, other):
            text = f"{own.name} {kind}: {values} is not {expected}"
            assert (values is None) == (expected is None), text
            # NaN is NaN, whatever its payload: the interpreter's numpy keeps another one than the processor.
            assert values is None or np.array_equal(values, expected, equal_nan=values.dtype.kind == "f"), text
            assert values is None or (np.signbit(values) == np.signbit(expected)).all(), text


def _pairs(mine: Any, other: Any) -> Any:
    if isinstance(mine, dict):
        assert mine.keys() == other.keys()
        return [(kind.name, mine[kind], other[kind]) for kind in mine]
    return [("", mine, other)]


def compare(draw: Callable[..., Any], *asked: SampleRequest) -> Any:
    """Draw a batch by the kernels for a GPU, and hold it against the compiled kernels. Returns what `draw` does.

    draw: takes rows, ROW[B], and results.
    """
    batch = pack(asked)
    got = new_results(batch)
    left = draw(batch.rows, got)
    same_bits(got, make_sampler("numba").sample(pack(asked)))
    return left


KEPT = outputs(KINDS[2], top_n=60, kept=True)
"""The most likely sixty of what is drawn from: all that was kept, unless it is more."""
FEW = chosen({"top_k": (1, 2, 5, 20, 50), "top_p": (1.0, 0.1, 0.5, 0.8, 0.999), "min_p": (0.0, 0.0, 0.01, 0.5, 1.0)})
EACH = (
    {"top_p": (0.1, 0.5, 0.8, 0.999)},
    {"min_p": (0.01, 0.5, 1.0)},
    {"top_k": (1, 3, 50, 1_030)},
    {"top_a": (0.1, 0.9)},
    {"typical_p": (0.1, 0.5, 0.95)},
    {"epsilon_cutoff": (0.01, 0.3)},
    {"eta_cutoff": (0.01, 0.3)},
    {"top_h": (0.1, 0.5, 0.9)},
    {"top_n_sigma": (0.5, 1.0, 3.0)},
    {"xtc_probability": (0.5, 1.0), "xtc_threshold": (0.01, 0.1, 0.5)},
    {
        "xtc_probability": (0.5, 1.0, 1.0),
        "xtc_threshold": (0.01, 0.1),
        "xtc_exempt_ids": (np.arange(1, dtype=np.int32), np.arange(40, dtype=np.int32)),
        "xtc_exemption": tuple(XtcExemption),
    },
)
STEPS = st.permutations([int(step) for step in FilterStep]).map(lambda own: np.array(own, np.int32))


def _mixed(some: Any) -> Any:
    """Filters that are on together, and how: in which order, by which rule about equals, and how many they leave."""
    how = {
        "order": tuple(Order),
        "ties": (TieRule.LOWEST_ID, *TieRule),
        "min_tokens_to_keep": (0, 1, 1, 3),
        "top_k_is_exact": (False, True),
    }
    return chosen({name: values for own in (*some, how) for name, values in own.items()})


MIXED = st.lists(st.sampled_from(EACH), min_size=1, max_size=3).flatmap(_mixed)


def _sequences(width: int) -> st.SearchStrategy[list[list[int]]]:
    return st.lists(st.lists(st.integers(0, width - 1), min_size=1, max_size=3), max_size=4)


def _words(width: int) -> st.SearchStrategy[dict[str, Any]]:
    """Bad words, or none."""
    return st.tuples(_sequences(width), st.sampled_from(tuple(PenaltyScope))).map(
        lambda own: {**sequence_lists("bad_words", own[0]), "bad_words_scope": own[1]}
    )


def _repeats(width: int) -> st.SearchStrategy[dict[str, Any]]:
    """What is done about what a history repeats."""
    breakers = st.lists(st.integers(0, width - 1), max_size=2).map(lambda own: np.array(own, np.int32))
    dry = st.builds(
        lambda longer, **own: Dry(**own, **sequence_lists("breaker_sequences", longer)),
        longer=_sequences(width),
        multiplier=st.sampled_from((0.0, 0.8, 1e300)),
        base=st.sampled_from((1.0, 1.75)),
        allowed_length=st.integers(0, 3),
        range=st.sampled_from((0, 0, 7)),
        sequence_breakers=breakers,
        allow_no_repeat=st.booleans(),
    )
    return st.builds(lambda own, size: {"dry": own, "no_repeat_ngram_size": size}, dry, st.sampled_from((0, 0, 1, 3)))


SHAPED = st.tuples(
    st.one_of(st.just(()), FEW, MIXED, st.tuples(MIXED, STEPS).map(lambda own: (*own[0], ("steps", own[1])))),
    st.one_of(
        chosen({"skew": (-5.0, -0.5, 0.5, 3.0), "dynamic_temperature_range": (0.0, 1.0)}),
        chosen(
            {
                "dynamic_temperature_range": (0.5, 60.0),
                "smoothing_factor": (0.2, 3.0),
                "smoothing_curve": (1.0, 5.0),
                "adaptive_target": (0.0, 0.5),
                "skew": (0.0,),
            }
        ),
        chosen(
            {
                "dynamic_temperature_range": (0.3, 1.0, 60.0),
                "dynamic_temperature_exponent": (0.5, 1.0, 2.0),
                "dynamic_temperature_counts_all": (False, True),
            }
        ),
        chosen({"smoothing_factor": (0.2, 3.0), "smoothing_curve": (1.0, 2.5, 5.0)}),
        chosen(
            {
                "adaptive_target": (0.1, 0.5, 0.9),
                "adaptive_total_weight": (0.0, 2.0),
                "adaptive_weighted_sum": (0.0, 0.7),
                "smoothing_factor": (0.0, 0.0, 1.0),
            }
        ),
    ),
).map(lambda own: (*own[0], *own[1]))
"""Filters in any order, and dynamic temperatures, smoothing, adaptive-p or skew. At T = 0 none is dynamic."""


@st.composite
def changes(draw: Any, width: int) -> Any:
    """Draw a mask, a bias and penalties for rows of this width, or none of some: pairs of names and values."""
    ids = st.lists(st.integers(0, width - 1), max_size=20).map(lambda own: np.array(own, np.int32))
    own: dict[str, Any] = {}
    mask = draw(st.sampled_from(("none", "none", "list", "bits")))
    if mask == "list":
        own["allowed_tokens"] = draw(ids)
    elif mask == "bits":
        own["token_bitmask"] = draw(st.binary(max_size=4 * (-(-width // 32))).map(lambda raw: raw[: len(raw) // 4 * 4]))
    if draw(st.booleans()):
        own["bias_ids"] = np.unique(draw(ids))
        amounts = st.sampled_from((1.5, -2.0, NEVER, 3e38, -3e38))
        own["bias_values"] = np.array([draw(amounts) for _ in own["bias_ids"]], np.float32)
    if draw(st.booleans()):
        own |= draw(_words(width))
    if draw(st.booleans()):
        own["history"] = np.resize(draw(ids), draw(st.sampled_from((0, 3, 150)))).astype(np.int32)
        own["repetition_penalty"] = draw(st.sampled_from((1.0, 1.3, 0.7)))
        own["frequency_penalty"] = draw(st.sampled_from((0.0, 0.1, -2.0)))
        own["presence_penalty"] = draw(st.sampled_from((0.0, 0.3, 1e300)))
        own["prompt_length"], own["penalty_range"] = draw(st.sampled_from((0, 2, 50))), draw(st.sampled_from((0, 0, 5)))
        for name in ("repetition_scope", "frequency_scope", "presence_scope"):
            own[name] = draw(st.sampled_from(tuple(PenaltyScope)))
        own |= draw(_repeats(width))
    return tuple(own.items())


def changed_rows(*, most: int = 2, **own: Any) -> st.SearchStrategy[list[Row]]:
    """Batches of rows with masks, biases and penalties, and some of them with filters."""
    guidance = st.tuples(st.sampled_from(tuple(Dtype)), st.sampled_from((None,) * 6 + (math.nan, math.inf)))
    usual = {
        "wanted": some_outputs(),
        "filters": st.one_of(st.just(()), FEW, MIXED),
        "guidance": st.one_of(st.none(), guidance),
        "is_sparse": st.sampled_from((False, False, True)),
        **own,
    }
    filters = usual.pop("filters")

    def of_width(width: int) -> st.SearchStrategy[list[Row]]:
        scale = st.sampled_from((0.0, 1.0, 1.5, -3e38)).map(lambda value: ("guidance_scale", value))
        both = st.tuples(changes(width), filters, scale).map(lambda three: (*three[0], *three[1], three[2]))
        return rows(most=1, width=st.just(width), parameters=both, **usual)

    one = st.sampled_from((1, 5, 30, 40, 513)).flatmap(of_width)
    return st.lists(one, min_size=1, max_size=most).map(lambda lists: [row for own_rows in lists for row in own_rows])
