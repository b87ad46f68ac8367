"""Requests under the limits that show what each field costs, at or near its limit.

By `python -m benchmarks price` they are timed; by `tests/unit/benchmarks/test_price_bound.py` they are priced.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from samplerd_server.core.enums import Dtype, InputKind, LogprobKind
from samplerd_server.core.outputs import OutputFlags, Outputs
from samplerd_server.core.params import Dry, SamplingParams
from samplerd_server.core.request import SampleRequest
from samplerd_server.core.rows import CandidateRow, CandidateRows, DenseRows
from samplerd_server.sampling.parameters.record import LISTS, lists_of

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BOUND", "DEARER", "Case", "bound_of", "cases", "dense", "more_bytes", "plain_of", "request_of"]

BOUND = 20.0
"""How many times its worth a request may cost."""
DEARER = {
    "skew": 60.0,
    "weights, entropies": 25.0,
    "dry, breaker sequences": 25.0,
    "every field": 80.0,
}
"""Beginnings of names of cases that may cost more: skew sorts all that is kept, each entropy of weights takes a
logarithm and a power of every number, breaker sequences are laid out as a tree, and costs of fields add up."""
_IDS = 1 << 18
"""The limit of ids in a list."""
_KINDS = tuple(LogprobKind)
_WEIGHTS: dict[str, Any] = {"kind": InputKind.PROBABILITIES}
_GUIDED: dict[str, Any] = {"guidance_scale": 1.5}
FILTERS: dict[str, dict[str, Any]] = {
    "top_k": {"top_k": 50},
    "top_p": {"top_p": 0.95},
    "min_p": {"min_p": 0.01},
    "typical_p": {"typical_p": 0.9},
    "eta_cutoff": {"eta_cutoff": 1e-3},
    "epsilon_cutoff": {"epsilon_cutoff": 1e-6},
    "top_n_sigma": {"top_n_sigma": 1.0},
    "xtc": {"xtc_probability": 1.0, "xtc_threshold": 0.001},
    "dynamic temperature": {"dynamic_temperature_range": 0.5},
    "top_a": {"top_a": 1e-4},
    "top_h": {"top_h": 0.9},
    "smoothing": {"smoothing_factor": 0.2},
    "adaptive-p": {"adaptive_target": 0.3},
    "skew": {"skew": 0.5},
    "all filters": {"typical_p": 0.99, "top_p": 0.999, "eta_cutoff": 1e-6, "top_a": 1e-4, "epsilon_cutoff": 1e-9},
}


class Case(NamedTuple):
    """One request, and what it is called."""

    name: str
    request: SampleRequest


def outputs_of(*kinds: LogprobKind, **fields: Any) -> Outputs:
    """Ask for log-probabilities of these kinds, and for what is named."""
    flags = OutputFlags(sum(OutputFlags.RAW << (kind - 1) for kind in kinds))
    flags |= OutputFlags(sum(OutputFlags.ENTROPY_RAW << (kind - 1) for kind in fields.get("entropy", ())))
    flags |= OutputFlags.ADAPTIVE * bool(fields.get("adaptive_state"))
    flags |= OutputFlags.RANK * bool(fields.get("rank")) | OutputFlags.KEPT * bool(fields.get("kept"))
    return Outputs(logprobs=kinds, output_flags=OutputFlags(flags), **fields)


def dense(rows: int, width: int, dtype: Dtype = Dtype.F32, *, is_flat: bool = False) -> DenseRows:
    """Make rows of normal logits."""
    numbers = np.random.default_rng(1).normal(size=(rows, width)).astype(np.float32) * (0 if is_flat else 3)
    data = numbers.astype(np.float16).tobytes() if dtype is Dtype.F16 else numbers.tobytes()
    return DenseRows(dtype=dtype, rows=rows, vocab_size=width, data=data)


def weights(rows: int, width: int) -> DenseRows:
    """Make rows of weights whose logarithms are normal."""
    numbers = np.exp(np.random.default_rng(1).normal(size=(rows, width)) * 3).astype(np.float32)
    return DenseRows(dtype=Dtype.F32, rows=rows, vocab_size=width, data=numbers.tobytes())


def sparse(width: int) -> CandidateRows:
    """Make a row of candidates, which are half of the vocabulary."""
    rng = np.random.default_rng(1)
    ids = np.sort(rng.choice(2 * width, width, replace=False)).astype(np.int32)
    row = CandidateRow(ids=ids, logits=rng.normal(size=width).astype(np.float32), rest_logsumexp=-np.inf)
    return CandidateRows(vocab_size=2 * width, candidates=(row,))


def request_of(source: DenseRows | CandidateRows, **fields: Any) -> SampleRequest:
    """Make a request; params, a dictionary, are those of all rows."""
    own = fields.pop("params", {})
    params = SamplingParams(**own, is_plain=own.keys() <= {"temperature"})
    return SampleRequest(**{"id": 1, "source": source, "params": (params,), "seed": 1, **fields})


class _Sizes(NamedTuple):
    v: int
    large: int
    rows: int
    ids: int
    samples: int

    @property
    def one(self) -> DenseRows:
        return dense(1, self.v)

    @property
    def many(self) -> DenseRows:
        return dense(self.rows, 256)

    @property
    def tokens(self) -> np.ndarray[Any, np.dtype[np.int32]]:
        return np.random.default_rng(2).integers(0, self.v, self.ids).astype(np.int32)

    @property
    def few(self) -> np.ndarray[Any, np.dtype[np.int32]]:
        """Only two distinct ones."""
        return self.tokens & 1

    @property
    def distinct(self) -> np.ndarray[Any, np.dtype[np.int32]]:
        return np.random.default_rng(3).permutation(self.v).astype(np.int32)

    @property
    def bias(self) -> dict[str, Any]:
        return {"bias_ids": self.distinct, "bias_values": np.ones(self.v, np.float32)}

    def pairs(self, name: str) -> dict[str, Any]:
        """Sequences of two tokens."""
        return {f"{name}_ids": self.tokens, f"{name}_ends": np.arange(2, self.ids + 1, 2, dtype=np.int32)}


def cases(scale: int) -> Iterator[Case]:
    """Give every case; `scale` divides the sizes for a quick run."""
    sizes = _Sizes(131_072 // scale, 4_000_000 // scale, 4096 // scale, _IDS // scale, (1 << 20) // scale)
    for part in (_filters, _weights, _rows, _histories, _lists, _candidates, _outputs, _everything):
        yield from part(sizes)


def _filters(sizes: _Sizes) -> Iterator[Case]:
    one, large = sizes.one, sizes.large
    for name, own in FILTERS.items():
        yield Case(name, request_of(one, params=own))
        yield Case(f"{name}, large", request_of(dense(1, large), params=own))
    yield Case("typical_p, flat, large", request_of(dense(1, large, is_flat=True), params={"typical_p": 0.9}))


def _weights(sizes: _Sizes) -> Iterator[Case]:
    v, large, samples = sizes.v, sizes.large, sizes.samples
    yield Case("weights, T = 0.7", request_of(weights(1, v), params={"temperature": 0.7}, **_WEIGHTS))
    yield Case(
        "weights, T = 0.7, draws",
        request_of(weights(1, v), params={"temperature": 0.7}, num_samples=samples, **_WEIGHTS),
    )
    yield Case("weights, typical_p", request_of(weights(1, large), params={"typical_p": 0.95}, **_WEIGHTS))
    powers = {"params": {"temperature": 0.7}, **_WEIGHTS}
    yield Case("weights, logprobs", request_of(weights(1, v), outputs=outputs_of(*_KINDS), **powers))
    yield Case("weights, entropies", request_of(weights(1, v), outputs=outputs_of(entropy=_KINDS), **powers))


def _rows(sizes: _Sizes) -> Iterator[Case]:
    one, many, v, large, samples = sizes.one, sizes.many, sizes.v, sizes.large, sizes.samples
    yield Case("guidance", request_of(one, guidance=one, params=_GUIDED))
    yield Case("guidance, large", request_of(dense(1, large), guidance=dense(1, large), params=_GUIDED))
    yield Case("guidance, many rows", request_of(many, guidance=many, params=_GUIDED))
    yield Case("guidance, weights", request_of(weights(1, v), guidance=weights(1, v), params=_GUIDED, **_WEIGHTS))
    yield Case("f16", request_of(dense(1, v, Dtype.F16)))
    yield Case("greedy, draws", request_of(dense(1, large), params={"temperature": 0.0}, num_samples=samples))
    yield Case("without replacement", request_of(dense(1, large), num_samples=samples, with_replacement=False))


def _histories(sizes: _Sizes) -> Iterator[Case]:
    one, many, tokens, distinct, few = sizes.one, sizes.many, sizes.tokens, sizes.distinct, sizes.few
    yield Case("history", request_of(one, params={"history": tokens, "frequency_penalty": 1.0}))
    yield Case(
        "dry",
        request_of(one, params={"history": distinct, "dry": Dry(multiplier=1.0)}),
    )
    repeats = np.resize(np.arange(3, dtype=np.int32), sizes.ids)
    yield Case("dry, repeats", request_of(one, params={"history": repeats, "dry": Dry(multiplier=1.0)}))
    sequences = Dry(multiplier=1.0, **sizes.pairs("breaker_sequences"))
    yield Case(
        "dry, breakers",
        request_of(one, params={"history": distinct, "dry": Dry(multiplier=1.0, sequence_breakers=tokens)}),
    )
    yield Case("dry, breaker sequences", request_of(one, params={"history": tokens, "dry": sequences}))
    words = sizes.pairs("bad_words")
    yield Case("bad_words", request_of(one, params={"history": tokens[:1], **words}))
    yield Case("no_repeat_ngram_size", request_of(one, params={"history": few, "no_repeat_ngram_size": 2}))
    exempt = {"xtc_exempt_ids": tokens, "xtc_probability": 1.0, "xtc_threshold": 0.001}
    yield Case("xtc, exempt ids", request_of(one, params=exempt))
    yield Case("history shared by many rows", request_of(many, params={"history": few, "frequency_penalty": 1.0}))
    yield Case(
        "dry shared by many rows",
        request_of(dense(sizes.rows // 16, 256), params={"history": few, "dry": Dry(multiplier=1.0)}),
    )
    yield Case("allowed_tokens shared by many rows", request_of(many, params={"allowed_tokens": np.unique(few)}))


def _lists(sizes: _Sizes) -> Iterator[Case]:
    one, v, tokens = sizes.one, sizes.v, sizes.tokens
    yield Case("logit_bias", request_of(one, params=sizes.bias))
    yield Case("allowed_tokens", request_of(one, params={"allowed_tokens": tokens}))
    yield Case("token_bitmask", request_of(one, params={"token_bitmask": bytes([85]) * (v // 8)}))


def _candidates(sizes: _Sizes) -> Iterator[Case]:
    v, large, tokens = sizes.v, sizes.large, sizes.tokens
    yield Case("candidates", request_of(sparse(large // 4)))
    yield Case("candidates, logit_bias", request_of(sparse(v), params=sizes.bias))
    yield Case("candidates, history", request_of(sparse(v), params={"history": tokens, "frequency_penalty": 1.0}))
    yield Case("candidates, allowed_tokens", request_of(sparse(v), params={"allowed_tokens": tokens}))
    yield Case("candidates, token_bitmask", request_of(sparse(v), params={"token_bitmask": bytes([85]) * (v // 4)}))
    yield Case("candidates, named ids", request_of(sparse(v), outputs=outputs_of(*_KINDS, logprob_ids=tokens)))


def _outputs(sizes: _Sizes) -> Iterator[Case]:
    one, many, tokens, few = sizes.one, sizes.many, sizes.tokens, sizes.few
    large, samples = sizes.large, sizes.samples
    yield Case("logprobs", request_of(one, outputs=outputs_of(*_KINDS)))
    yield Case("logprobs, draws", request_of(one, outputs=outputs_of(*_KINDS), num_samples=samples))
    yield Case("entropies", request_of(one, outputs=outputs_of(entropy=_KINDS)))
    state = outputs_of(adaptive_state=True)
    yield Case("adaptive-p, state", request_of(one, params=FILTERS["adaptive-p"], outputs=state))
    yield Case("kept", request_of(one, params={"top_p": 0.9}, outputs=outputs_of(kept=True)))
    yield Case("rank", request_of(one, outputs=outputs_of(rank=True)))
    yield Case("rank, draws", request_of(one, outputs=outputs_of(rank=True), num_samples=samples))
    yield Case("rank, large", request_of(dense(1, large), outputs=outputs_of(rank=True), num_samples=1000))
    yield Case("top_n", request_of(one, outputs=outputs_of(*_KINDS, top_n=1024)))
    yield Case("top_n, large", request_of(dense(1, large), outputs=outputs_of(*_KINDS, top_n=1024)))
    yield Case("top_n, many rows", request_of(many, outputs=outputs_of(*_KINDS, top_n=256)))
    yield Case("named ids", request_of(one, outputs=outputs_of(*_KINDS, logprob_ids=tokens)))
    yield Case("named ids, many rows", request_of(many, outputs=outputs_of(*_KINDS, logprob_ids=few[:1024])))


def _everything(sizes: _Sizes) -> Iterator[Case]:
    """Give all that costs most for its bytes, filters that keep nearly all; lists and guidance cost less for theirs."""
    source = weights(1, sizes.v)
    everything = FILTERS["all filters"] | FILTERS["dynamic temperature"] | FILTERS["smoothing"] | {"temperature": 0.7}
    everything |= {"top_n_sigma": 30.0, "top_h": 0.9999, "xtc_probability": 1.0, "xtc_threshold": 0.001}
    asked = outputs_of(*_KINDS, entropy=_KINDS, rank=True, kept=True)
    for name, shape in (("every field but skew", FILTERS["adaptive-p"]), ("every field", FILTERS["skew"])):
        yield Case(name, request_of(source, params=everything | shape, outputs=asked, **_WEIGHTS))


def plain_of(request: SampleRequest) -> SampleRequest:
    """Ask for plain samples of as many rows, numbers and draws; an id of a candidate is a number, too."""
    source = request.source
    if isinstance(source, CandidateRows):
        width = 2 * len(source.candidates[0].ids)
        source = DenseRows(dtype=Dtype.F32, rows=1, vocab_size=width, data=bytes(4 * width))
    return replace(
        request,
        source=source,
        params=(SamplingParams(),),
        kind=InputKind.LOGITS,
        with_replacement=True,
        outputs=Outputs(),
        guidance=None,
    )


def more_bytes(request: SampleRequest) -> tuple[int, int]:
    """Count what a request and its reply have more than plain ones: as numbers read, and as samples drawn."""
    rows, outputs, params = request.source.rows, request.outputs, request.params[0]
    items = sum(0 if own is None else len(own) // unit.unit for unit, own in zip(LISTS, lists_of(params), strict=True))
    named = 0 if outputs.logprob_ids is None else len(outputs.logprob_ids)
    values = request.samples * (len(outputs.logprobs) + outputs.rank)
    values += rows * (len(outputs.logprobs) * (2 * outputs.top_n + named) + len(outputs.entropy) + 2 * outputs.kept)
    guidance = 0 if request.guidance is None else rows * request.guidance.vocab_size
    return items + named + guidance, values


def bound_of(name: str) -> float:
    """Tell how many times its worth a case may cost."""
    return next((bound for begin, bound in DEARER.items() if name.startswith(begin)), BOUND)
