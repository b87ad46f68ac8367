"""How rows are drawn from, as a caller writes it down: the sampling parameters and the sparse kinds of rows.

Rule 1: None (or absence) means the server's default, so nothing is sent. Rule 2: ranges are the server's to check; it
names the field in its answer. Meanings and ranges are those of the contract, samplerd/v1/sampler.proto.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from samplerd.v1 import sampler_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

__all__ = [
    "Candidates",
    "Dry",
    "Ids",
    "LogprobKind",
    "Order",
    "SamplingParams",
    "SharedMemory",
    "kind_number",
    "params_message",
]

Ids: TypeAlias = "Sequence[int] | NDArray[Any]"
"""Integers: a list, or a numpy array."""

Order: TypeAlias = Literal["hugging_face", "vllm", "llama_cpp", "joint"]
"""Which system's order of filters."""

LogprobKind: TypeAlias = Literal["raw", "scaled", "processed"]
"""Which distribution: the row as sent; after mask, bias, penalties and temperature; after all filters, renormalised."""

_ORDERS = {
    "hugging_face": pb.ORDER_HUGGING_FACE,
    "vllm": pb.ORDER_VLLM,
    "llama_cpp": pb.ORDER_LLAMA_CPP,
    "joint": pb.ORDER_JOINT,
}

_KINDS = {
    "raw": pb.LOGPROB_KIND_RAW,
    "scaled": pb.LOGPROB_KIND_SCALED,
    "processed": pb.LOGPROB_KIND_PROCESSED,
}

DTYPES = {"f32": pb.DTYPE_F32, "f16": pb.DTYPE_F16, "bf16": pb.DTYPE_BF16, "f64": pb.DTYPE_F64}
"""How numbers are stored, by name."""


def kind_number(kind: str) -> pb.LogprobKind.ValueType:
    """Return the proto's number of "raw", "scaled" or "processed"; ValueError for anything else."""
    if kind not in _KINDS:
        raise ValueError(f"a kind of log-probability is one of {', '.join(_KINDS)}; got {kind!r}")
    return _KINDS[kind]


def integers(values: Ids) -> Iterable[int]:
    """Return the values in a form that protobuf takes quickly."""
    return values.tolist() if isinstance(values, np.ndarray) else values


@dataclass(frozen=True, slots=True, kw_only=True)
class Dry:
    """The DRY penalty on tokens that would continue a repetition of `history`."""

    multiplier: float
    """Strength; 0 = off."""
    base: float | None = None
    """Growth per token of the repeat. Default 1.75."""
    allowed_length: int | None = None
    """Longest repeat that is free. Default 2."""
    range: int | None = None
    """How many of the last tokens of history are looked at. Default all."""
    sequence_breakers: Ids = ()
    """Tokens that end a repeat."""

    def to_proto(self) -> pb.DryParams:
        """Return the message."""
        return pb.DryParams(
            multiplier=self.multiplier,
            base=self.base or 0.0,  # 0 is the default, on the wire
            allowed_length=self.allowed_length or 0,
            range=self.range or 0,
            sequence_breakers=integers(self.sequence_breakers),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How one row, or every row, is drawn from. None is the server's default: off."""

    temperature: float | None = None
    """T in softmax(x / T). Default 1; 0 = argmax."""
    top_k: int | None = None
    """Keep exactly the k most likely; 0 = off."""
    top_p: float | None = None
    """Keep the shortest prefix, most likely first, with mass >= top_p; 1 = off."""
    min_p: float | None = None
    """Keep what has at least min_p times the largest probability; 0 = off."""
    typical_p: float | None = None
    """Locally typical sampling; 1 = off."""
    epsilon_cutoff: float | None = None
    """Keep what has at least this probability; 0 = off."""
    eta_cutoff: float | None = None
    """Keep what has at least min(eta, sqrt(eta) exp(-H)); 0 = off."""
    top_n_sigma: float | None = None
    """Keep logits of at least max - n standard deviations; 0 = off."""
    xtc_threshold: float | None = None
    """XTC drops all but the least likely of the tokens with at least this probability."""
    xtc_probability: float | None = None
    """Probability that XTC acts; 0 = off."""
    dynamic_temperature_range: float | None = None
    """T varies by this much around `temperature` with the row's entropy; 0 = off."""
    dynamic_temperature_exponent: float | None = None
    """Exponent of dynamic temperature. Default 1."""
    repetition_penalty: float | None = None
    """Divides positive and multiplies other logits of the tokens of `history`; 1 = off."""
    frequency_penalty: float | None = None
    """Subtracted once per occurrence in `history`; 0 = off."""
    presence_penalty: float | None = None
    """Subtracted once from every token in `history`; 0 = off."""
    dry: Dry | None = None
    """The DRY penalty."""
    history: Ids | None = None
    """The tokens so far, oldest first: what the penalties look at."""
    logit_bias: Mapping[int, float] | None = None
    """Added to the logit of each of these tokens."""
    allowed_tokens: Ids | None = None
    """Only these can be drawn. Not together with token_bitmask."""
    token_bitmask: bytes | NDArray[Any] | None = None
    """int32 words: token j is allowed if bit j mod 32 of word j div 32 is set."""
    min_tokens_to_keep: int | None = None
    """The filters keep at least this many. Default 1."""
    order: Order | None = None
    """The order of the filters. Default "hugging_face"."""

    def to_proto(self) -> pb.SamplingParams:
        """Return the message; ValueError for an unknown order or a number that the field cannot hold."""
        return params_message({name: getattr(self, name) for name in FIELD_NAMES})


FIELD_NAMES = tuple(field.name for field in fields(SamplingParams))
"""The fields of SamplingParams, here and in the proto."""

_COMPOUND = frozenset({"dry", "history", "logit_bias", "allowed_tokens", "token_bitmask", "order"})


def params_message(given: Mapping[str, Any]) -> pb.SamplingParams:
    """Return the message with these fields of SamplingParams; None is as good as absent.

    Raises:
        TypeError, ValueError: a value that its field cannot hold; the text begins with the field's name.

    """
    message = pb.SamplingParams()
    for name, value in given.items():
        if value is None:
            continue
        try:
            if name in _COMPOUND:
                _set_compound(message, name, value)
            else:
                setattr(message, name, value)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name}: {error}") from error
    return message


def _set_compound(message: pb.SamplingParams, name: str, value: Any) -> None:
    if name == "dry":
        message.dry.CopyFrom(value.to_proto())
    elif name == "logit_bias":
        for token, bias in value.items():
            message.logit_bias.add(id=token, bias=bias)
    elif name == "order":
        if value not in _ORDERS:
            raise ValueError(f"must be one of {', '.join(_ORDERS)}; got {value!r}")
        message.order = _ORDERS[value]
    elif name == "token_bitmask":
        words = isinstance(value, np.ndarray)
        message.token_bitmask = value.astype("<i4", casting="same_kind").tobytes() if words else bytes(value)
    else:
        getattr(message, name).extend(integers(value))


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Sparse rows: the most likely categories of each, with the weight of all others in one number."""

    ids: Sequence[Ids]
    """For each row the ids of its candidates, distinct, within [0, vocab_size)."""
    logits: Sequence[Sequence[float] | NDArray[Any]]
    """Their logits (or weights), in the same order."""
    rest_logsumexp: Sequence[float] | NDArray[Any] | None = None
    """For each row ln of the sum of exp(logit) over what is not sent; None = nothing else can be drawn."""
    vocab_size: int
    """Size of the whole vocabulary."""

    @classmethod
    def from_logits(cls, logits: NDArray[Any], k: int) -> Candidates:
        """Return the k most likely of each row of logits[B, V], and the exact weight of the rest."""
        rows = np.atleast_2d(np.asarray(logits, dtype=np.float32))
        vocab_size = rows.shape[1]
        count = min(k, vocab_size)
        order = np.argpartition(-rows, count - 1, axis=1)
        ids, others = order[:, :count], order[:, count:]
        rest = np.take_along_axis(rows, others, axis=1).astype(np.float64)
        if rest.shape[1]:
            top = np.max(rest, axis=1, keepdims=True)
            base = np.where(np.isfinite(top), top, 0.0)
            with np.errstate(divide="ignore"):
                tail = np.log(np.exp(rest - base).sum(axis=1)) + base[:, 0]
        else:
            tail = np.full(len(rows), -np.inf)
        return cls(
            ids=list(ids),
            logits=list(np.take_along_axis(rows, ids, axis=1)),
            rest_logsumexp=tail,
            vocab_size=vocab_size,
        )

    def to_proto(self) -> pb.Candidates:
        """Return the message; ValueError when the lists do not fit each other."""
        if (
            not len(self.ids)
            == len(self.logits)
            == len(self.ids if self.rest_logsumexp is None else self.rest_logsumexp)
        ):
            raise ValueError("candidates: ids, logits and rest_logsumexp must have one entry for each row")
        message = pb.Candidates(vocab_size=self.vocab_size)
        for index, (ids, logits) in enumerate(zip(self.ids, self.logits, strict=True)):
            numbers = logits.tolist() if isinstance(logits, np.ndarray) else logits
            row = message.row.add(ids=integers(ids), logits=numbers)
            if self.rest_logsumexp is not None:
                row.rest_logsumexp = float(self.rest_logsumexp[index])
        return message


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedMemory:
    """Rows in a shared-memory region of the server's host, whoever made it; `SharedMemoryRegion` makes one."""

    key: str
    """Name of the POSIX shared-memory region."""
    rows: int
    vocab_size: int
    offset: int = 0
    """First byte of the rows within the region."""
    dtype: Literal["f32", "f16", "bf16", "f64"] = "f32"

    def to_proto(self) -> pb.SharedMemory:
        """Return the message."""
        itemsize = {"f32": 4, "f64": 8}.get(self.dtype, 2)
        return pb.SharedMemory(
            key=self.key,
            offset=self.offset,
            byte_size=self.rows * self.vocab_size * itemsize,
            dtype=DTYPES[self.dtype],
            rows=self.rows,
            vocab_size=self.vocab_size,
        )
