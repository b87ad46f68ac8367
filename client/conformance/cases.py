"""What is asked, and what a reply cannot be worked out for: errors, named as the contract names them."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from samplerd.v1 import sampler_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message

__all__ = ["Case", "Failure", "cases"]

WORKED_EXAMPLE = [1.0, 2.0, 0.5, 1.5]
V = 50
EXEMPT = list(range(0, V, 3))
INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, UNIMPLEMENTED = 3, 5, 6, 12
RAW, SCALED, PROCESSED = pb.LOGPROB_KIND_RAW, pb.LOGPROB_KIND_SCALED, pb.LOGPROB_KIND_PROCESSED
KINDS = [RAW, SCALED, PROCESSED]
INF, NAN = float("inf"), float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A call that fails as a whole."""

    code: int
    """The google.rpc.Code."""
    fields: tuple[str, ...] = ()
    """The fields that its google.rpc.BadRequest names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One call."""

    name: str
    request: Message
    rpc: str = "Sample"
    failure: Failure | None = None
    """How it fails; None: it is answered, and a Sample or VerifyDraft with what the reference draws."""


def cases() -> Iterator[Case]:
    """Give every call of the suite, in the order in which they are to be made."""
    yield from _worked_example()
    yield from _sources()
    yield from _params()
    yield from _guidance()
    yield from _draws()
    yield from _outputs()
    yield from _row_errors()
    yield from _failures()
    yield from _drafts()
    yield from _distributions()


def _logits(rows: int = 1, size: int = V, *, seed: int = 0, scale: float = 2.0) -> Any:
    return np.random.default_rng([7, seed, rows, size]).normal(0.0, scale, (rows, size)).astype(np.float32)


def _tensor(rows: Any, dtype: pb.Dtype.ValueType = pb.DTYPE_F32) -> pb.Tensor:
    array = np.atleast_2d(np.asarray(rows, np.float32))
    if dtype == pb.DTYPE_BF16:
        data = (array.view("<u4") >> 16).astype("<u2").tobytes()
    else:
        data = array.astype({pb.DTYPE_F32: "<f4", pb.DTYPE_F16: "<f2", pb.DTYPE_F64: "<f8"}[dtype]).tobytes()
    return pb.Tensor(dtype=dtype, rows=array.shape[0], vocab_size=array.shape[1], data=data)


def _sample(rows: Any = None, *, params: dict[str, Any] | None = None, **fields: Any) -> pb.SampleRequest:
    """Make a request: seeded, five draws, of one usual row unless told otherwise."""
    if not fields.keys() & {"values", "candidates", "distribution", "shared_memory", "tensor"}:
        fields["tensor"] = _tensor(_logits() if rows is None else rows)
    if not fields.keys() & {"seed", "row_seeds"}:
        fields["seed"] = 1234
    if params is not None:
        fields["params"] = pb.SamplingParams(**params)
    return pb.SampleRequest(**{"id": 1, "num_samples": 5, **fields})


def _worked_example() -> Iterator[Case]:
    values = pb.Values(row=[pb.Values.Row(values=WORKED_EXAMPLE)])
    outputs = pb.Outputs(logprobs=[PROCESSED], logprob_ids=[0, 1, 2, 3])
    yield Case(name="worked example", request=_sample(values=values, params={"temperature": 0.7}, outputs=outputs))
    yield Case(name="worked example, argmax", request=_sample(values=values, params={"temperature": 0.0}))
    seeds = list(range(100, 116))
    many = _sample([WORKED_EXAMPLE] * 16, params={"temperature": 0.7}, row_seeds=seeds, num_samples=1)
    yield Case(name="worked example, 16 seeds", request=many)


def _sources() -> Iterator[Case]:
    for dtype in (pb.DTYPE_F32, pb.DTYPE_F16, pb.DTYPE_BF16, pb.DTYPE_F64):
        request = _sample(tensor=_tensor(_logits(3), dtype), outputs=pb.Outputs(logprobs=[RAW]))
        yield Case(name=f"tensor of {pb.Dtype.Name(dtype)}", request=request)
    unspecified = _sample(_logits(2))
    unspecified.tensor.dtype = pb.DTYPE_UNSPECIFIED
    yield Case(name="tensor without a dtype", request=unspecified)
    single = _sample()
    single.tensor.rows = 0
    yield Case(name="tensor without rows is one row", request=single)
    rows = [pb.Values.Row(values=row) for row in _logits(3, 7).tolist()]
    yield Case(name="values", request=_sample(values=pb.Values(row=rows)))
    weights = np.abs(_logits(2, 9, seed=3))
    request = _sample(weights, kind=pb.INPUT_KIND_PROBABILITIES, outputs=pb.Outputs(logprobs=KINDS))
    yield Case(name="probabilities", request=request)
    request = _sample(weights, kind=pb.INPUT_KIND_PROBABILITIES, params={"temperature": 0.5})
    yield Case(name="probabilities, T = 0.5", request=request)
    candidates = pb.Candidates(
        row=[
            pb.Candidates.Row(ids=[40, 3, 77, 12], logits=[2.5, 2.0, 1.0, 0.25]),
            pb.Candidates.Row(ids=[9, 8, 99], logits=[5.0, 4.0, 3.0], rest_logsumexp=-20.0),
        ],
        vocab_size=100,
    )
    yield Case(name="candidates", request=_sample(candidates=candidates, outputs=pb.Outputs(logprobs=[RAW])))
    yield Case(name="a vocabulary of one", request=_sample([[3.0]]))
    yield Case(name="a row of one category", request=_sample([[-INF, 1.0, -INF]]))
    yield Case(name="a large vocabulary", request=_sample(_logits(1, 5000, seed=5), params={"top_k": 40}))


def _words(ids: list[int]) -> pb.TokenSequence:
    """Make one sequence of tokens."""
    return pb.TokenSequence(ids=ids)


def _params() -> Iterator[Case]:
    history = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4]
    loop = [7, 8, 9, 10, 7, 8, 9, 10, 7, 8, 9]
    bitmask = struct.pack("<2I", 0b1011_0110_1111_0000_1010, 0b11)
    bias = [pb.LogitBias(id=4, bias=3.5), pb.LogitBias(id=9, bias=-INF)]
    penalties = {"repetition_penalty": 1.5, "frequency_penalty": 0.6, "presence_penalty": 0.9, "history": history}
    likely = int(_logits()[0].argmax())
    each: dict[str, dict[str, Any]] = {
        "no parameters": {},
        "temperature 0": {"temperature": 0.0},
        "temperature 0.3": {"temperature": 0.3},
        "temperature 2.5": {"temperature": 2.5},
        "temperature 1e-8": {"temperature": 1e-8},
        "temperature 1e4": {"temperature": 1e4},
        "top_k 1": {"top_k": 1},
        "top_k 5": {"top_k": 5},
        "top_k beyond the vocabulary": {"top_k": 1000},
        "top_p 0.8": {"top_p": 0.8},
        "top_p tiny": {"top_p": 1e-9},
        "min_p 0.2": {"min_p": 0.2},
        "min_p 1": {"min_p": 1.0},
        "top_a 0.3": {"top_a": 0.3},
        "top_a after top_p": {"top_p": 0.8, "top_a": 0.6},
        "typical_p 0.5": {"typical_p": 0.5},
        "epsilon_cutoff": {"epsilon_cutoff": 0.03},
        "eta_cutoff": {"eta_cutoff": 0.05},
        "top_n_sigma": {"top_n_sigma": 1.0},
        "top_h": {"top_h": 0.4},
        "top_h after others": {"top_h": 0.5, "top_k": 12, "temperature": 1.5, "order": pb.ORDER_LLAMA_CPP},
        "xtc always": {"xtc_threshold": 0.05, "xtc_probability": 1.0},
        "xtc sometimes": {"xtc_threshold": 0.05, "xtc_probability": 0.5},
        "xtc, exempt tokens": {"xtc_threshold": 0.05, "xtc_probability": 1.0, "xtc_exempt_ids": EXEMPT},
        "xtc, exempt rows": {
            "xtc_threshold": 0.05,
            "xtc_probability": 1.0,
            "xtc_exempt_ids": EXEMPT,
            "xtc_exemption": pb.XTC_EXEMPTION_ROW,
        },
        "dynamic temperature": {"temperature": 1.0, "dynamic_temperature_range": 0.6},
        "dynamic temperature, exponent": {
            "temperature": 1.2,
            "dynamic_temperature_range": 0.6,
            "dynamic_temperature_exponent": 2.0,
        },
        "smoothing": {"smoothing_factor": 0.3},
        "skew": {"skew": 0.8},
        "skew towards the likely": {"skew": -1.2, "top_k": 9, "order": pb.ORDER_LLAMA_CPP, "temperature": 1.4},
        "adaptive-p": {"adaptive_target": 0.1, "top_k": 20},
        "adaptive-p with a state": {
            "adaptive_target": 0.2,
            "adaptive_weighted_sum": 1.3,
            "adaptive_total_weight": 4.1,
            "temperature": 0.8,
        },
        "smoothing, a curve above 3": {"smoothing_factor": 0.5, "smoothing_curve": 4.5, "top_p": 0.9},
        "smoothing after the filters": {
            "smoothing_factor": 0.2,
            "smoothing_curve": 1.5,
            "temperature": 1.3,
            "min_p": 0.02,
            "order": pb.ORDER_LLAMA_CPP,
        },
        "repetition_penalty": {"repetition_penalty": 1.3, "history": history},
        "frequency_penalty": {"frequency_penalty": 0.7, "history": history},
        "presence_penalty": {"presence_penalty": 1.1, "history": history},
        "dry": {"dry": pb.DryParams(multiplier=2.0), "history": loop},
        "dry, every field": {
            "dry": pb.DryParams(multiplier=1.5, base=1.2, allowed_length=1, range=9, sequence_breakers=[10]),
            "history": loop,
        },
        "dry, breaker sequences": {
            "dry": pb.DryParams(multiplier=2.0, breaker_sequences=[_words([9, 10, 7]), _words([4])]),
            "history": loop,
        },
        "dry, no repeat allowed": {"dry": pb.DryParams(multiplier=2.0, allow_no_repeat=True), "history": history},
        "scopes of the output": {
            **penalties,
            "prompt_length": 12,
            "frequency_scope": pb.PENALTY_SCOPE_OUTPUT,
            "presence_scope": pb.PENALTY_SCOPE_OUTPUT,
        },
        "scope of the repetition_penalty": {
            **penalties,
            "prompt_length": 15,
            "repetition_scope": pb.PENALTY_SCOPE_OUTPUT,
            "frequency_scope": pb.PENALTY_SCOPE_HISTORY,
        },
        "penalty_range": {**penalties, "penalty_range": 6},
        "penalty_range and scopes": {
            **penalties,
            "penalty_range": 6,
            "prompt_length": 17,
            "presence_scope": pb.PENALTY_SCOPE_OUTPUT,
        },
        "no_repeat_ngram_size 1": {"no_repeat_ngram_size": 1, "history": history},
        "no_repeat_ngram_size 3": {"no_repeat_ngram_size": 3, "history": loop, "temperature": 0.0},
        "bad_words": {"bad_words": [_words([7]), _words([8, 9, 10]), _words([8, 8])], "history": loop},
        "bad_words of the output": {
            "bad_words": [_words([7]), _words([8, 9, likely]), _words([9, likely])],
            "history": loop,
            "prompt_length": 10,
            "bad_words_scope": pb.PENALTY_SCOPE_OUTPUT,
        },
        "logit_bias": {"logit_bias": bias},
        "allowed_tokens": {"allowed_tokens": [1, 3, 5, 49]},
        "token_bitmask": {"token_bitmask": bitmask},
        "a short token_bitmask": {"token_bitmask": bitmask[:4]},
        "min_tokens_to_keep": {"top_p": 0.01, "min_tokens_to_keep": 4},
        "everything": {
            "temperature": 0.9,
            "top_k": 30,
            "top_p": 0.95,
            "min_p": 0.01,
            "typical_p": 0.98,
            "repetition_penalty": 1.1,
            "frequency_penalty": 0.1,
            "presence_penalty": 0.2,
            "history": history,
            "logit_bias": bias,
        },
    }
    outputs = pb.Outputs(logprobs=[PROCESSED], kept=True)
    for name, params in each.items():
        yield Case(name=name, request=_sample(params=params, outputs=outputs))
    mixed: dict[str, Any] = {"temperature": 1.7, "top_k": 12, "top_p": 0.85, "min_p": 0.06, "typical_p": 0.9}
    for order in pb.Order.values():
        name = f"order {pb.Order.Name(order)}"
        yield Case(name=name, request=_sample(params={**mixed, "order": order}, outputs=outputs))
    xtc = {"xtc_threshold": 0.05, "xtc_probability": 1.0}
    cold = {**xtc, "temperature": 0.0, "order": pb.ORDER_LLAMA_CPP}
    yield Case(name="temperature 0 after XTC", request=_sample(params=cold, outputs=outputs))
    steps = [pb.FILTER_STEP_XTC, pb.FILTER_STEP_MIN_P, pb.FILTER_STEP_TEMPERATURE, pb.FILTER_STEP_TOP_P]
    steps += [pb.FILTER_STEP_TOP_N_SIGMA, pb.FILTER_STEP_TOP_K, pb.FILTER_STEP_TYPICAL_P]
    free = {**mixed, **xtc, "steps": steps, "top_n_sigma": 2.0, "ties": pb.TIE_RULE_ALL}
    yield Case(name="an order of one's own", request=_sample(params=free, outputs=outputs))
    coarse = np.round(_logits(2))
    for rule in pb.TieRule.values():
        tied: dict[str, Any] = {"top_k": 9, "top_p": 0.8, "min_p": 0.06, "ties": rule}
        request = _sample(coarse, params=tied, outputs=outputs)
        yield Case(name=f"ties {pb.TieRule.Name(rule)}", request=request)
    dynamic: dict[str, Any] = {
        "dynamic_temperature_range": 1.5,
        "dynamic_temperature_counts_all": True,
        "min_tokens_to_keep": 5,
    }
    dynamic |= {"order": pb.ORDER_LLAMA_CPP, "top_k": 3, "top_k_is_exact": True, "top_n_sigma": 2.0}
    yield Case(name="dynamic temperature as llama.cpp's", request=_sample(params=dynamic, outputs=outputs))
    row_params = [pb.SamplingParams(temperature=0.0), pb.SamplingParams(top_k=3), pb.SamplingParams(min_p=0.3)]
    yield Case(name="parameters of each row", request=_sample(_logits(3), row_params=row_params, outputs=outputs))


def _guidance() -> Iterator[Case]:
    outputs = pb.Outputs(logprobs=KINDS, top_n=3)
    guidance = pb.Guidance(tensor=_tensor(_logits(2, seed=6), pb.DTYPE_F16))
    own: dict[str, Any] = {"tensor": _tensor(_logits(2)), "guidance": guidance}
    for scale in (-1.0, 0.0, 0.5, 1.5, 4.0):
        request = _sample(**own, params={"guidance_scale": scale}, outputs=outputs)
        yield Case(name=f"guidance_scale {scale:g}", request=request)
    params = {"guidance_scale": 1.5, "repetition_penalty": 1.4, "history": [0, 7, 9, 21], "top_k": 8}
    yield Case(name="guidance before penalties and filters", request=_sample(**own, params=params, outputs=outputs))
    each = [pb.SamplingParams(guidance_scale=3.0), pb.SamplingParams(temperature=0.5)]
    yield Case(name="guidance of one row of two", request=_sample(**own, row_params=each, outputs=outputs))
    weights = np.abs(_logits(1, 9, seed=3))
    guidance = pb.Guidance(values=pb.Values(row=[pb.Values.Row(values=np.abs(_logits(1, 9, seed=4))[0].tolist())]))
    kind = pb.INPUT_KIND_PROBABILITIES
    request = _sample(weights, kind=kind, guidance=guidance, params={"guidance_scale": 2.0}, outputs=outputs)
    yield Case(name="guidance of probabilities, as values", request=request)
    request = _sample(**own, params={"guidance_scale": 2.0, "temperature": 0.0})
    yield Case(name="guidance, argmax", request=request)


def _draws() -> Iterator[Case]:
    yield Case(name="one sample", request=_sample(num_samples=1))
    yield Case(name="no num_samples is one", request=_sample(num_samples=0))
    yield Case(name="many samples", request=_sample(num_samples=500))
    yield Case(name="draws 0 to 9", request=_sample(num_samples=10))
    yield Case(name="draws 5 to 9", request=_sample(num_samples=5, draw_offset=5))
    yield Case(name="a far draw_offset", request=_sample(draw_offset=2**63))
    yield Case(name="seed 0", request=_sample(seed=0))
    yield Case(name="the largest seed", request=_sample(seed=2**64 - 1))
    yield Case(name="the largest id", request=_sample(id=2**64 - 1))
    yield Case(name="priority", request=_sample(priority=-100))
    yield Case(name="rows of one seed", request=_sample([_logits()[0]] * 4))
    yield Case(name="a seed for each row", request=_sample([_logits()[0]] * 4, row_seeds=[1234, 5, 6, 1234]))
    without: dict[str, Any] = {"replacement": pb.REPLACEMENT_WITHOUT}
    yield Case(name="without replacement", request=_sample(num_samples=12, **without))
    yield Case(name="without replacement, the whole row", request=_sample(_logits(1, 8), num_samples=8, **without))
    request = _sample(num_samples=6, params={"top_k": 6}, outputs=pb.Outputs(logprobs=KINDS, rank=True), **without)
    yield Case(name="without replacement, top_k", request=request)
    request = _sample(num_samples=6, params={"temperature": 0.0}, **without)
    yield Case(name="without replacement, argmax", request=request)
    yield Case(name="a tie goes to the lowest id", request=_sample([[0.5, 2, 2, 2]], params={"temperature": 0.0}))


_STATE = {"adaptive_target": 0.3, "adaptive_weighted_sum": 1.7, "adaptive_total_weight": 5.5}
_ADAPTIVE: dict[str, dict[str, Any]] = {
    "beginning": {"params": {"adaptive_target": 0.2}},
    "after filters": {"params": {**_STATE, "adaptive_decay": 0.5, "min_p": 0.05, "temperature": 0.7}},
    "without replacement": {
        "params": {**_STATE, "top_k": 12, "adaptive_decay": 0.0},
        "replacement": pb.REPLACEMENT_WITHOUT,
    },
    "temperature 0": {"params": {**_STATE, "temperature": 0.0}},
    "adaptive-p is off": {"params": {"adaptive_weighted_sum": 1.7, "adaptive_total_weight": 5.5, "top_k": 9}},
}
"""Draws after which the state of adaptive-p is asked for."""


def _outputs() -> Iterator[Case]:
    params = {"temperature": 0.8, "top_k": 10}
    for kind in KINDS:
        outputs = pb.Outputs(logprobs=[kind], top_n=4, logprob_ids=[0, 7, 49], entropy=[kind])
        name = f"outputs of {pb.LogprobKind.Name(kind)}"
        yield Case(name=name, request=_sample(_logits(2), params=params, outputs=outputs))
    outputs = pb.Outputs(logprobs=KINDS, top_n=3, logprob_ids=[5], rank=True, entropy=KINDS, kept=True)
    yield Case(name="all outputs", request=_sample(_logits(2), params=params, outputs=outputs))
    states = pb.Outputs(adaptive_state=True)
    for name, own in _ADAPTIVE.items():
        yield Case(name=f"the next state, {name}", request=_sample(num_samples=3, outputs=states, **own))
    beyond = pb.Outputs(logprobs=[PROCESSED], top_n=5)
    yield Case(name="top_n beyond the row", request=_sample([[1.0, 2.0, 3.0]], outputs=beyond))
    yield Case(name="raw_samples", request=_sample(num_samples=20, outputs=pb.Outputs(raw_samples=True)))
    outputs = pb.Outputs(raw_samples=True, logprobs=[RAW])
    yield Case(name="raw_samples and logprobs", request=_sample(outputs=outputs))


def _row_errors() -> Iterator[Case]:
    good, size = _logits(1, 6)[0].tolist(), 6
    nan = [*good[:3], NAN, *good[4:]]
    infinite = [INF, *good[1:]]
    yield Case(name="a row of NaN among good ones", request=_sample([good, nan, good]))
    yield Case(name="an infinite row among good ones", request=_sample([infinite, good]))
    yield Case(name="an empty row among good ones", request=_sample([good, [-INF] * size]))
    negative = _sample([[1.0, 2.0], [1.0, -1.0]], kind=pb.INPUT_KIND_PROBABILITIES)
    yield Case(name="a negative weight among good ones", request=negative)
    few = _sample([good, [1.0, *[-INF] * 5]], num_samples=3, replacement=pb.REPLACEMENT_WITHOUT)
    yield Case(name="too few categories among good ones", request=few)
    candidates = pb.Candidates(
        row=[
            pb.Candidates.Row(ids=[1, 2], logits=[1.0, 0.0]),
            pb.Candidates.Row(ids=[1, 2], logits=[1.0, 0.0], rest_logsumexp=30.0),
        ],
        vocab_size=10_000,
    )
    yield Case(name="a draw outside the candidates", request=_sample(candidates=candidates))
    guidance = pb.Guidance(tensor=_tensor([good, nan]))
    guided = _sample([good, good], guidance=guidance, params={"guidance_scale": 2.0})
    yield Case(name="a guidance row of NaN beside a good one", request=guided)
    outputs = pb.Outputs(logprobs=KINDS, top_n=2, rank=True, entropy=KINDS, kept=True, adaptive_state=True)
    yield Case(name="outputs of a failed row", request=_sample([good, nan], outputs=outputs))
    failure = Failure(code=INVALID_ARGUMENT, fields=("row[0]", "row[1]"))
    yield Case(name="all rows failed", request=_sample([nan, infinite]), failure=failure)


def _failures() -> Iterator[Case]:
    def wrong(field: str, request: pb.SampleRequest, name: str = "") -> Case:
        failure = Failure(code=INVALID_ARGUMENT, fields=(field,))
        return Case(name=f"wrong: {name or field}", request=request, failure=failure)

    out_of_range: dict[str, Any] = {
        "temperature": -1.0,
        "top_p": 1.5,
        "min_p": -0.1,
        "typical_p": 0.0,
        "epsilon_cutoff": 1.0,
        "eta_cutoff": 1.0,
        "top_n_sigma": -1.0,
        "xtc_threshold": 2.0,
        "xtc_probability": -0.5,
        "dynamic_temperature_range": -0.5,
        "guidance_scale": INF,
        "repetition_penalty": 0.0,
        "frequency_penalty": NAN,
        "presence_penalty": INF,
    }
    for field, value in out_of_range.items():
        yield wrong(f"params.{field}", _sample(params={field: value}))
    yield wrong("params.history[1]", _sample(params={"history": [0, V]}))
    yield wrong("params.allowed_tokens[0]", _sample(params={"allowed_tokens": [-1]}))
    yield wrong("params.bad_words[1].ids", _sample(params={"bad_words": [_words([1]), _words([])]}))
    yield wrong("params.bad_words[0].ids[1]", _sample(params={"bad_words": [_words([1, V])]}))
    yield wrong("params.steps[1]", _sample(params={"steps": [pb.FILTER_STEP_MIN_P, pb.FILTER_STEP_MIN_P]}))
    yield wrong("params.steps", _sample(params={"steps": [pb.FILTER_STEP_MIN_P], "top_k": 3}))
    yield wrong("params.repetition_scope", _sample(params={"repetition_scope": 3}))
    yield wrong("params.dry.multiplier", _sample(params={"dry": pb.DryParams(multiplier=-1)}))
    yield wrong("params.guidance_scale", _sample(params={"guidance_scale": 2.0}), "guidance_scale without guidance")
    guidance = pb.Guidance(tensor=_tensor(_logits()))
    yield wrong("guidance", _sample(guidance=guidance), "guidance without a guidance_scale")
    guided: dict[str, Any] = {"guidance": guidance, "params": {"guidance_scale": 2.0}}
    yield wrong("guidance", _sample(_logits(2), **guided), "fewer guidance rows than rows")
    yield wrong("source", pb.SampleRequest(), "no source")
    short = _sample()
    short.tensor.data = short.tensor.data[:-1]
    yield wrong("tensor.data", short)
    yield wrong("tensor.vocab_size", pb.SampleRequest(tensor=pb.Tensor(rows=1)))
    ragged = pb.Values(row=[pb.Values.Row(values=[1, 2]), pb.Values.Row(values=[1])])
    yield wrong("values.row[1].values", _sample(values=ragged))
    yield wrong("row_seeds", _sample(_logits(2), row_seeds=[1]))
    yield wrong("row_params", _sample(_logits(2), row_params=[pb.SamplingParams()]))
    yield wrong("draw_offset", _sample(draw_offset=1, replacement=pb.REPLACEMENT_WITHOUT))
    yield wrong("priority", _sample(priority=101))
    yield wrong("outputs.logprob_ids[0]", _sample(outputs=pb.Outputs(logprobs=[RAW], logprob_ids=[V])))
    missing = _sample(distribution="there.is.none")
    yield Case(name="no such distribution", request=missing, failure=Failure(code=NOT_FOUND))


def _drafts() -> Iterator[Case]:
    draft = np.exp(_logits(3, 12, seed=8))
    draft /= draft.sum(axis=1, keepdims=True)
    target = _tensor(_logits(4, 12, seed=9))
    for seed in range(4):
        request = pb.VerifyDraftRequest(id=seed, seed=seed, draft_ids=[4, 0, 7], draft=_tensor(draft), target=target)
        yield Case(name=f"draft, seed {seed}", rpc="VerifyDraft", request=request)
    greedy = pb.VerifyDraftRequest(
        id=9, seed=9, draft_ids=[4, 0, 7], target=target, params=pb.SamplingParams(temperature=0.0)
    )
    yield Case(name="draft, greedy", rpc="VerifyDraft", request=greedy)
    yield from _draft_trees()
    wrong = pb.VerifyDraftRequest(seed=1, draft_ids=[12, 0, 7], target=target)
    failure = Failure(code=INVALID_ARGUMENT, fields=("draft_ids[0]",))
    yield Case(name="wrong: draft_ids", rpc="VerifyDraft", request=wrong, failure=failure)


def _draft_trees() -> Iterator[Case]:
    """Three tokens follow the sequence, two each of the first two of these."""
    ids, parents = [4, 0, 7, 1, 2, 3, 4], [-1, -1, -1, 0, 0, 1, 1]
    draft = np.exp(_logits(len(ids), 8, seed=10))
    target = _tensor(_logits(len(ids) + 1, 8, seed=11))
    for seed in range(6):
        rows = _tensor(draft) if seed % 2 else None
        request = pb.VerifyDraftRequest(
            id=seed, seed=seed, draft_ids=ids, parents=parents, draft=rows, target=target, draw_offset=seed
        )
        yield Case(name=f"draft tree, seed {seed}", rpc="VerifyDraft", request=request)
    cycle = pb.VerifyDraftRequest(seed=1, draft_ids=ids, parents=[-1, 1, -1, 0, 0, 1, 1], target=target)
    failure = Failure(code=INVALID_ARGUMENT, fields=("parents[1]",))
    yield Case(name="wrong: parents", rpc="VerifyDraft", request=cycle, failure=failure)


def _distributions() -> Iterator[Case]:
    name, rows = "conformance", _logits(2, 30, seed=4)
    create = pb.CreateDistributionRequest(name=name, tensor=_tensor(rows))
    yield Case(name="create a distribution", rpc="CreateDistribution", request=create)
    taken = Failure(code=ALREADY_EXISTS)
    yield Case(name="create it again", rpc="CreateDistribution", request=create, failure=taken)
    yield Case(name="sample it", request=_sample(distribution=name, params={"temperature": 0.6}, num_samples=40))
    delete = pb.DeleteDistributionRequest(name=name)
    yield Case(name="delete it", rpc="DeleteDistribution", request=delete)
    yield Case(name="sample it once deleted", request=_sample(distribution=name), failure=Failure(code=NOT_FOUND))
