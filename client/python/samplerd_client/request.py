"""From a call's arguments to the bytes of a request.

Rule 1: unary calls, streams and the synchronous client all take the keywords `SampleOptions` and go through `build`.
Rule 2: everything in a request but its id, seed and dense rows is its `RequestTemplate`. Calls tend to repeat their
options, so templates are cached by them, shared, and never changed. Rule 3: rows are copied exactly once, from the
caller's array into the message's bytes (see `wire`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

from samplerd.v1 import sampler_pb2 as pb
from samplerd_client.arrays import ArrayLike, Rows, as_rows
from samplerd_client.options import SampleOptions
from samplerd_client.params import FIELD_NAMES, integers, kind_number, params_message, put_shared
from samplerd_client.wire import length_delimited, with_guidance, with_tensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from samplerd_client.params import CudaSharedMemory, Ids, LogprobKind, SamplingParams, SharedMemory
    from samplerd_client.shared_memory import Slot

__all__ = ["EncodedParts", "PreparedRequest", "RequestTemplate", "build", "set_params", "set_scalars"]

_SAMPLING = frozenset(FIELD_NAMES)
_SCALARS = ("num_samples", "draw_offset", "priority")
_OUTPUTS = frozenset({"logprobs", "top_n", "logprob_ids", "rank", "entropy", "kept", "adaptive_state"})
_OPTIONS = frozenset(SampleOptions.__annotations__)
_SOURCES = ("candidates", "distribution", "values", "shared_memory")
_ONCE = f"give the rows exactly once: as the first argument, or as one of {', '.join(_SOURCES)}"


class RequestTemplate:
    """A request without its id, seed and dense rows. Shared by requests, so never changed."""

    __slots__ = ("_parts", "has_source", "is_plain", "is_row_wise", "message", "num_samples")

    def __init__(self, message: pb.SampleRequest) -> None:
        self.message = message
        self.num_samples = message.num_samples or 1
        """S."""
        self.has_source = message.WhichOneof("source") is not None
        """The template names the rows (candidates, a distribution, values), so no dense rows may be added."""
        self.is_row_wise = bool(message.row_params or message.row_seeds)
        """It has parameters or seeds for each row, so it depends on the number of rows."""
        self.is_plain = not any(getattr(message.outputs, name) for name in _OUTPUTS)
        """It asks for samples only, for no other outputs."""
        self._parts: EncodedParts | None = None

    @property
    def parts(self) -> EncodedParts:
        """The encoded message, its parameters separate from the rest. Encoded on first use."""
        if self._parts is None:
            self._parts = _encode_parts(self.message)
        return self._parts


class EncodedParts(NamedTuple):
    """A template's encoded message in two parts, so that requests with different parameters can be joined."""

    common: bytes
    """Everything but the parameters: requests with the same bytes here can be sent as rows of one request."""
    params: bytes
    """The parameters as the field `params`; empty when there are none."""
    row_params: bytes
    """The parameters as an entry of the field `row_params`."""


def _encode_parts(message: pb.SampleRequest) -> EncodedParts:
    params = message.params.SerializeToString()
    common = message
    if message.HasField("params"):
        common = pb.SampleRequest()
        common.CopyFrom(message)
        common.ClearField("params")
    return EncodedParts(
        common=common.SerializeToString(),
        params=_field(pb.SampleRequest.PARAMS_FIELD_NUMBER, params) if params else b"",
        row_params=_field(pb.SampleRequest.ROW_PARAMS_FIELD_NUMBER, params),
    )


class PreparedRequest(NamedTuple):
    """A request that is complete but for its id."""

    template: RequestTemplate
    seed: int | None
    """None: the server draws one."""
    rows: Rows | None
    """Dense rows."""
    memory: SharedMemory | CudaSharedMemory | Slot | None = None
    """Dense rows in shared memory. A slot stays in use as long as this refers to it."""
    guidance: Rows | SharedMemory | CudaSharedMemory | Slot | None = None
    """Guidance rows, here or in shared memory."""

    def encode(self, request_id: int = 0) -> bytes:
        """Return the bytes of the request."""
        message = pb.SampleRequest()
        message.CopyFrom(self.template.message)
        message.id = request_id
        if self.seed is not None:
            message.seed = self.seed
        if self.memory is not None:
            put_shared(message, self.memory)
        if isinstance(self.guidance, Rows):
            return with_guidance(message.SerializeToString(), self.guidance, self.rows)
        if self.guidance is not None:
            put_shared(message.guidance, self.guidance)
        return with_tensor(message.SerializeToString(), self.rows)


def build(logits: ArrayLike | None, options: SampleOptions) -> PreparedRequest:
    """Return the request.

    Args:
        logits: [V] or [B, V], or None when an option names the rows.
        options: the keywords of `sample`.

    Raises:
        TypeError: an unknown keyword, or something that is no array of numbers.
        ValueError: no rows or two kinds of them, a number that its field cannot hold, arguments that exclude others.

    """
    template = _template(cast("dict[str, Any]", options))
    memory: SharedMemory | CudaSharedMemory | Slot | None = options.get("shared_memory")
    if template.has_source + (logits is not None) + (memory is not None) != 1:
        raise ValueError(_ONCE)
    rows = None if logits is None else as_rows(logits, options.get("dtype"))
    return PreparedRequest(template, _seed(options.get("seed")), rows, memory, _guidance(options))


def _guidance(options: SampleOptions) -> Rows | SharedMemory | CudaSharedMemory | Slot | None:
    """Return the guidance rows; TypeError or ValueError for what is no array of numbers."""
    given: Any = options.get("guidance")
    if given is None or hasattr(given, "to_proto"):
        return cast("SharedMemory | CudaSharedMemory | Slot | None", given)
    try:
        return as_rows(given, options.get("dtype"))
    except (TypeError, ValueError) as error:
        raise type(error)(f"guidance: {error}") from error


_templates: dict[object, RequestTemplate] = {}
_MAX_TEMPLATES = 256
"""Bounded, since callers choose their parameters freely."""
_MAX_KEY = 1024
"""Characters of the options' text; longer ones are not cached, to bound the cache's memory."""
_CHANGING = frozenset({"seed", "shared_memory", "guidance"})
"""Options that differ from call to call, and so are no part of a template."""
_COMPARABLE = frozenset({int, float, str, bool, type(None)})
"""Types whose values are distinguished by `==` once their types are compared too (1, 1.0 and True). Except for zeros:
0.0 == -0.0."""


def _template(options: dict[str, Any]) -> RequestTemplate:
    """Return the template of these options: the cached one if equal options came before."""
    said = options
    if not _CHANGING.isdisjoint(options):
        said = {name: value for name, value in options.items() if name not in _CHANGING}
    values = said.values()
    key: object
    # 0.0 and -0.0 are equal, but not on the wire. `repr` distinguishes them, and is slower.
    if _COMPARABLE.issuperset(map(type, values)) and 0 not in values:
        key = (*said.items(), *map(type, values))
    elif all(type(value) in _COMPARABLE or _is_names(value) for value in values):
        key = repr(said)
    else:
        return _new_template(options)
    template = _templates.get(key)
    if template is None:
        template = _new_template(options)
        if len(_templates) >= _MAX_TEMPLATES:
            _templates.clear()
        if len(repr(said)) <= _MAX_KEY:
            _templates[key] = template
    return template


def _is_names(value: Any) -> bool:
    return type(value) is tuple and all(type(name) is str for name in value)


def _new_template(options: dict[str, Any]) -> RequestTemplate:
    if unknown := sorted(options.keys() - _OPTIONS):
        raise TypeError(f"sample() has no argument {unknown[0]!r}")
    message = pb.SampleRequest()
    message.num_samples = 1
    set_scalars(message, options, _SCALARS)
    _set_row_seeds(message, options.get("row_seeds"))
    if not options.get("replacement", True):
        message.replacement = pb.REPLACEMENT_WITHOUT
    if options.get("probabilities", False):
        message.kind = pb.INPUT_KIND_PROBABILITIES
    set_params(message, options)
    _set_outputs(message.outputs, options)
    _set_source(message, options)
    return RequestTemplate(message)


def _seed(seed: Any) -> int | None:
    """Return the seed; TypeError or ValueError if its field cannot hold it."""
    if seed is None or (type(seed) is int and 0 <= seed < 1 << 64):
        return seed
    message = pb.SampleRequest()
    set_scalars(message, {"seed": seed}, ("seed",))
    return message.seed


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
    """Set the sampling parameters, given by `params`, by `row_params`, or by a keyword for each.

    Raises:
        ValueError: they are given in two of these ways, or a value cannot be held by its field.

    """
    single = {name: value for name, value in options.items() if name in _SAMPLING and value is not None}
    params: SamplingParams | None = options.get("params")
    row_params: Sequence[SamplingParams] | None = options.get("row_params")
    if (bool(single) + (params is not None) + (row_params is not None)) > 1:
        raise ValueError("give params, or row_params, or a keyword for each parameter, not two of them")
    if row_params is not None:
        message.row_params.extend(entry.to_proto() for entry in row_params)
    elif params is not None:
        message.params.CopyFrom(params.to_proto())
    elif single:
        message.params.CopyFrom(params_message(single))


def _set_outputs(outputs: pb.Outputs, options: Mapping[str, Any]) -> None:
    outputs.raw_samples = True
    if not options.keys() & _OUTPUTS:
        return
    outputs.logprobs.extend(map(kind_number, _several(options.get("logprobs", ()))))
    outputs.entropy.extend(map(kind_number, _several(options.get("entropy", ()))))
    outputs.logprob_ids.extend(integers(_present(options.get("logprob_ids"))))
    outputs.top_n = options.get("top_n", 0)
    outputs.rank = options.get("rank", False)
    outputs.kept = options.get("kept", False)
    outputs.adaptive_state = options.get("adaptive_state", False)


def _set_source(message: pb.SampleRequest, options: Mapping[str, Any]) -> None:
    given = [name for name in _SOURCES if name not in _CHANGING and options.get(name) is not None]
    if len(given) > 1:
        raise ValueError(_ONCE)
    if (candidates := options.get("candidates")) is not None:
        message.candidates.CopyFrom(candidates.to_proto())
    elif (distribution := options.get("distribution")) is not None:
        message.distribution = distribution
    else:
        # With an empty list of values the source is set all the same, so that the server can say what is wrong with it.
        for row in options.get("values") or ():
            message.values.row.add(values=row)
        if given:
            message.values.SetInParent()


def _several(kinds: Sequence[LogprobKind] | LogprobKind) -> Sequence[str]:
    return (kinds,) if isinstance(kinds, str) else kinds


def _present(ids: Ids | None) -> Ids:
    return () if ids is None else ids


def _field(number: int, content: bytes) -> bytes:
    return length_delimited(number, len(content)) + content
