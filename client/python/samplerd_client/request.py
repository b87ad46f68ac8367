"""From a call's arguments to the bytes of a request.

Rule 1: every way of asking (unary, stream, synchronous, command line) takes the same keywords, `SampleOptions`, and
goes through `build`. Rule 2: the rows are copied exactly once, from the caller's array into the message's bytes:
protobuf would copy them three times, so the tensor, which has the highest field number, is appended to the encoded rest
by hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict, cast

from samplerd.v1 import sampler_pb2 as pb
from samplerd_client.arrays import ArrayLike, Rows, as_rows
from samplerd_client.params import (
    FIELD_NAMES,
    Candidates,
    Dry,
    Ids,
    LogprobKind,
    Order,
    SamplingParams,
    SharedMemory,
    integers,
    kind_number,
    params_message,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = [
    "Plan",
    "SampleOptions",
    "SamplingFields",
    "build",
    "set_params",
    "set_scalars",
    "tensor_parts",
    "with_tensor",
]


class SamplingFields(TypedDict, total=False):
    """The fields of SamplingParams as keywords."""

    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    typical_p: float | None
    epsilon_cutoff: float | None
    eta_cutoff: float | None
    top_n_sigma: float | None
    xtc_threshold: float | None
    xtc_probability: float | None
    dynamic_temperature_range: float | None
    dynamic_temperature_exponent: float | None
    repetition_penalty: float | None
    frequency_penalty: float | None
    presence_penalty: float | None
    dry: Dry | None
    history: Ids | None
    logit_bias: Mapping[int, float] | None
    allowed_tokens: Ids | None
    token_bitmask: bytes | NDArray[Any] | None
    min_tokens_to_keep: int | None
    order: Order | None


class SampleOptions(SamplingFields, total=False):
    """The keywords of `sample`: the fields of SamplingParams, and these."""

    params: SamplingParams | None
    """Parameters of all rows, instead of single keywords."""
    row_params: Sequence[SamplingParams] | None
    """Parameters of each row."""
    num_samples: int
    """Samples from each row, S. Default 1."""
    replacement: bool
    """Whether an id may be drawn twice from one row. Default True."""
    seed: int | None
    """Key of the noise, 0 to 2^64 - 1. None: the server draws one, and the result says which."""
    row_seeds: Ids | None
    """A key for each row, which then draws the same whichever request carries it."""
    draw_offset: int
    """Index of the first draw, to continue a seeded sequence. Default 0."""
    probabilities: bool
    """The numbers are weights, not logits. Default False."""
    candidates: Candidates | None
    """Sparse rows, instead of dense ones."""
    distribution: str | None
    """Name of an uploaded distribution, instead of rows."""
    values: Sequence[Sequence[float]] | None
    """Rows sent as written-out numbers, instead of raw bytes."""
    shared_memory: SharedMemory | None
    """Rows in the server's shared memory, instead of rows in the message."""
    logprobs: Sequence[LogprobKind] | LogprobKind
    """Kinds of log-probabilities of the drawn ids to return."""
    top_n: int
    """For each of these kinds also the most likely n."""
    logprob_ids: Ids | None
    """For each of these kinds also those of these ids."""
    rank: bool
    """Return the rank of each sample."""
    entropy: Sequence[LogprobKind] | LogprobKind
    """Kinds of distribution whose entropies to return."""
    kept: bool
    """Return how many categories the filters kept, and their mass."""
    priority: int
    """Who goes first when not all can, -100 to 100. Default 0."""
    dtype: str | None
    """Convert the rows before sending: "f32", "f16", "bf16", "f64". None sends them as they are."""


_SAMPLING = frozenset(FIELD_NAMES)
_SCALARS = ("num_samples", "seed", "draw_offset", "priority")
_OUTPUTS = frozenset({"logprobs", "top_n", "logprob_ids", "rank", "entropy", "kept"})
_OPTIONS = frozenset(SampleOptions.__annotations__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A request that waits to be numbered and sent."""

    message: pb.SampleRequest
    """All of the request but id and dense rows."""
    rows: Rows | None
    """Dense rows."""

    @property
    def num_samples(self) -> int:
        """S."""
        return max(1, self.message.num_samples)

    def encode(self, request_id: int = 0) -> bytes:
        """Return the bytes of the request."""
        self.message.id = request_id
        return with_tensor(self.message.SerializeToString(), self.rows)


def with_tensor(head: bytes, rows: Rows | None, field: int = pb.SampleRequest.TENSOR_FIELD_NUMBER) -> bytes:
    """Return an encoded message with its tensor appended."""
    return head if rows is None else b"".join((head, *tensor_parts(rows, field)))


def tensor_parts(rows: Rows, field: int) -> tuple[bytes | memoryview, ...]:
    """Return what follows one another in an encoded message where its field of this number is a tensor."""
    tensor = pb.Tensor(dtype=rows.dtype, rows=rows.rows, vocab_size=rows.vocab_size).SerializeToString()
    data = _length_delimited(pb.Tensor.DATA_FIELD_NUMBER, len(rows.data))
    size = len(tensor) + len(data) + len(rows.data)
    return _length_delimited(field, size), tensor, data, rows.data


def build(logits: ArrayLike | None, options: SampleOptions) -> Plan:
    """Return the request.

    Args:
        logits: [V] or [B, V], or None when an option names the rows.
        options: the keywords of `sample`.

    Raises:
        TypeError: an unknown keyword, or something that is no array of numbers.
        ValueError: no rows or two kinds of them, a number that its field cannot hold, arguments that exclude others.

    """
    given = cast("dict[str, Any]", options)
    if unknown := sorted(given.keys() - _OPTIONS):
        raise TypeError(f"sample() has no argument {unknown[0]!r}")
    message = pb.SampleRequest()
    message.num_samples = 1
    set_scalars(message, given, _SCALARS)
    _set_row_seeds(message, options.get("row_seeds"))
    if not options.get("replacement", True):
        message.replacement = pb.REPLACEMENT_WITHOUT
    if options.get("probabilities", False):
        message.kind = pb.INPUT_KIND_PROBABILITIES
    set_params(message, given)
    _set_outputs(message.outputs, options)
    return Plan(message=message, rows=_set_source(message, logits, options))


def set_scalars(
    message: pb.SampleRequest | pb.VerifyDraftRequest, options: Mapping[str, Any], names: Sequence[str]
) -> None:
    """Set the fields of these names, where they are given.

    Raises:
        TypeError, ValueError: one cannot hold what it is given; the text begins with its name.

    """
    for name in names:
        value = options.get(name)
        if value is None:
            continue
        try:
            setattr(message, name, value)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name}: {error}") from error


def _set_row_seeds(message: pb.SampleRequest, row_seeds: Ids | None) -> None:
    if row_seeds is None:
        return
    try:
        message.row_seeds.extend(integers(row_seeds))
    except (TypeError, ValueError) as error:
        raise type(error)(f"row_seeds: {error}") from error


def set_params(message: pb.SampleRequest | pb.VerifyDraftRequest, options: Mapping[str, Any]) -> None:
    """Set the sampling parameters, which are given at once, row by row, or as single keywords.

    Raises:
        ValueError: they are given in two of these ways, or a value cannot be held by its field.

    """
    single = {name: value for name, value in options.items() if name in _SAMPLING and value is not None}
    params: SamplingParams | None = options.get("params")
    row_params: Sequence[SamplingParams] | None = options.get("row_params")
    if (bool(single) + (params is not None) + (row_params is not None)) > 1:
        raise ValueError("give params, or row_params, or single parameters, not two of them")
    if row_params is not None:
        message.row_params.extend(entry.to_proto() for entry in row_params)
    elif params is not None:
        message.params.CopyFrom(params.to_proto())
    elif single:
        message.params.CopyFrom(params_message(single))


def _set_outputs(outputs: pb.Outputs, options: SampleOptions) -> None:
    outputs.raw_samples = True
    if not options.keys() & _OUTPUTS:
        return
    outputs.logprobs.extend(map(kind_number, _several(options.get("logprobs", ()))))
    outputs.entropy.extend(map(kind_number, _several(options.get("entropy", ()))))
    outputs.logprob_ids.extend(integers(_present(options.get("logprob_ids"))))
    outputs.top_n = options.get("top_n", 0)
    outputs.rank = options.get("rank", False)
    outputs.kept = options.get("kept", False)


def _set_source(message: pb.SampleRequest, logits: ArrayLike | None, options: SampleOptions) -> Rows | None:
    names = ("candidates", "distribution", "values", "shared_memory")
    given = [name for name in names if cast("dict[str, Any]", options).get(name) is not None]
    if (len(given) + (logits is not None)) != 1:
        raise ValueError(f"give the rows exactly once: as the first argument, or as one of {', '.join(names)}")
    if logits is not None:
        return as_rows(logits, options.get("dtype"))
    if (candidates := options.get("candidates")) is not None:
        message.candidates.CopyFrom(candidates.to_proto())
    elif (distribution := options.get("distribution")) is not None:
        message.distribution = distribution
    elif (shared_memory := options.get("shared_memory")) is not None:
        message.shared_memory.CopyFrom(shared_memory.to_proto())
    else:
        for row in options.get("values") or ():
            message.values.row.add(values=row)
    return None


def _several(kinds: Sequence[LogprobKind] | LogprobKind) -> Sequence[str]:
    return (kinds,) if isinstance(kinds, str) else kinds


def _present(ids: Ids | None) -> Ids:
    return () if ids is None else ids


def _length_delimited(field: int, size: int) -> bytes:
    """Return the tag of a length-delimited field and its length."""
    encoded = bytearray()
    for number in ((field << 3) | 2, size):
        value = number
        while value > 0x7F:
            encoded.append(value & 0x7F | 0x80)
            value >>= 7
        encoded.append(value)
    return bytes(encoded)
