"""The arrow ``pb.SamplingParams -> SamplingParams``: checks ranges, fills defaults, decides what is plain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from samplerd_server.core.enums import Step
from samplerd_server.core.errors import InvalidRequestError, NotImplementedFieldError
from samplerd_server.core.params import Dry, SamplingParams
from samplerd_server.sampling.arithmetic import COLDEST
from samplerd_server.sampling.parameters import FILTERS, PARAMETERS, PLAIN, ParamKind, steps_of
from samplerd_server.transport.codec.decode_ids import decode_ids, decode_sequences

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from enum import IntEnum

    from numpy.typing import NDArray

    from samplerd.v1 import sampler_pb2 as pb
    from samplerd_server.sampling.parameters import Parameter
    from samplerd_server.transport.codec.decode_ids import ParamsContext

__all__ = ["DEFAULT_PARAMS", "decode_params"]

_Decode: TypeAlias = "Callable[[Any, str, ParamsContext], Any]"
"""Takes the message, the path of the field for errors, and the context; returns the value."""

DEFAULT_PARAMS = SamplingParams()
_CAPABILITIES = {row.name: f"SamplingParams.{row.name}" for row in PARAMETERS}
_EXCLUDED = [(row.name, row.excludes) for row in PARAMETERS if row.excludes]
_TEMPERATURES = next(row.range for row in PARAMETERS if row.name == "temperature")
_LARGEST_INT32 = 2**31 - 1

_plain_by_temperature: dict[float, SamplingParams] = {}
_MAX_REMEMBERED = 1024
"""Plain parameters are remembered by temperature, so that the usual request costs one look-up; bounded, since clients
choose the temperatures."""


def decode_params(message: pb.SamplingParams, path: str, context: ParamsContext) -> SamplingParams:
    """Check the parameters of a row.

    Args:
        message: as received.
        path: where it stands in the request, for errors: ``params``, ``row_params[3]``.
        context: vocabulary size and limits.

    Raises:
        InvalidRequestError: a value is out of range or contradicts another.
        NotImplementedFieldError: a field is set that the sampler cannot honour.

    """
    names = {field.name for field, _ in message.ListFields()}
    temperature = 1.0
    if "temperature" in names:
        temperature = message.temperature
        remembered = _plain_by_temperature.get(temperature)
        if remembered is not None and len(names) == 1:
            return remembered
        if temperature not in _TEMPERATURES:
            raise InvalidRequestError(f"{path}.temperature", f"{temperature} is not a finite number >= 0")
    if names <= PLAIN:
        params = SamplingParams(temperature=_at_least_coldest(temperature))
        if len(_plain_by_temperature) < _MAX_REMEMBERED:
            _plain_by_temperature[temperature] = params
        return params
    return _decode_all(message, names, path, context)


def _decode_all(
    message: pb.SamplingParams, names: Collection[str], path: str, context: ParamsContext
) -> SamplingParams:
    for name in names:
        if name not in PLAIN and _CAPABILITIES[name] not in context.capabilities:
            raise NotImplementedFieldError(f"{path}.{name}")
    found = {name: decode(message, f"{path}.{name}", context) for name, decode in _CHOICE_DECODERS if name in names}
    for name, other in _EXCLUDED:
        if name in names and other in names:
            raise InvalidRequestError(f"{path}.{name}", f"not together with {other}")
    for name, decode in _DECODERS:
        if name in names:
            found[name] = decode(message, f"{path}.{name}", context)
    if not context.has_guidance and found.get("guidance_scale", 1.0) != 1.0:
        raise InvalidRequestError(f"{path}.guidance_scale", context.why_not_guided)
    found["temperature"] = _at_least_coldest(found.get("temperature", 1.0))
    params = SamplingParams(is_plain=False, **_spread(found, PARAMETERS))
    _check_steps(params, path)
    return params


def _at_least_coldest(temperature: float) -> float:
    """Raise a temperature that is above 0 to the lowest that makes a difference: no id and no logprob changes."""
    return COLDEST if 0 < temperature < COLDEST else temperature


def _check_steps(params: SamplingParams, path: str) -> None:
    """Check that what is on has a step, and that dynamic temperature has a temperature.

    Raises:
        InvalidRequestError: it has not. A step that is not named would otherwise be left out without a word.

    """
    is_dynamic = params.dynamic_temperature_range > 0
    if is_dynamic and params.is_greedy:
        raise InvalidRequestError(
            f"{path}.dynamic_temperature_range", "not with a temperature of 0, which is the argmax"
        )
    if params.steps is None:
        return
    steps = steps_of(params)
    for own in FILTERS:
        if own.name not in {"joint", *steps} and own.is_on(params):
            raise InvalidRequestError(f"{path}.steps", f"{own.name} is on, but is not among the steps")
    is_needed = params.temperature != 1 or is_dynamic or params.smoothing_factor > 0
    if is_needed and "temperature" not in steps:
        text = "the temperature is not 1, or is dynamic or smoothed, but is not among the steps"
        raise InvalidRequestError(f"{path}.steps", text)


def _spread(found: dict[str, Any], rows: Sequence[Parameter]) -> dict[str, Any]:
    """Give the attributes of an entity: a parameter that is held by two of them was decoded to both."""
    for row in rows:
        if len(row.attributes) > 1 and row.name in found:
            found.update(zip(row.attributes, found.pop(row.name), strict=True))
    return found


def _number(row: Parameter, says: str = "") -> _Decode:
    """Decode a number that is set. `says`: what it must be, if that is not said by its interval."""
    name, interval = row.name, row.range

    def decode(message: Any, path: str, _context: ParamsContext) -> float:
        value: float = getattr(message, name)
        if value not in interval:
            raise InvalidRequestError(path, f"{value} is not {says or f'in {interval}'}")
        return value

    return decode


def _integer(row: Parameter) -> _Decode:
    """Decode a whole number that is set; one that is too large for the record is clamped."""
    name, clamps_to_vocab = row.name, row.clamps_to_vocab

    def decode(message: Any, _path: str, context: ParamsContext) -> int:
        value: int = getattr(message, name)
        return min(value, context.vocab_size if clamps_to_vocab else _LARGEST_INT32)

    return decode


def _ids(row: Parameter) -> _Decode:
    """Decode a list of ids; a mask names each id once, so that it never has more of them than a row has numbers."""
    name = row.name
    if row.step is not Step.MASK:
        return lambda message, path, context: decode_ids(getattr(message, name), path, context)

    def decode(message: Any, path: str, context: ParamsContext) -> NDArray[np.int32] | None:
        ids = decode_ids(getattr(message, name), path, context)
        return ids if ids is None or len(ids) <= context.vocab_size else np.unique(ids)

    return decode


def _choice(row: Parameter) -> _Decode:
    """Decode a value of an enumeration; 0 means its first."""
    assert row.choices is not None, f"{row.name} has no choices. This is a bug."
    name, enumeration = row.name, row.choices.__name__
    values = {0: next(iter(row.choices))} | {int(own): own for own in row.choices}

    def decode(message: Any, path: str, _context: ParamsContext) -> IntEnum:
        value = values.get(int(getattr(message, name)))
        if value is None:
            raise InvalidRequestError(path, f"{int(getattr(message, name))} is not a known {enumeration}")
        return value

    return decode


def _choices(row: Parameter) -> _Decode:
    """Decode distinct values of an enumeration; none is absence."""
    assert row.choices is not None, f"{row.name} has no choices. This is a bug."
    name, enumeration, known = row.name, row.choices.__name__, {int(own): own.name.lower() for own in row.choices}

    def decode(message: Any, path: str, _context: ParamsContext) -> NDArray[np.int32]:
        values = list(getattr(message, name))
        for at, value in enumerate(values):
            if value not in known:
                raise InvalidRequestError(f"{path}[{at}]", f"{value} is not a known {enumeration}")
            if value in values[:at]:
                raise InvalidRequestError(f"{path}[{at}]", f"{known[value]} is in the list twice")
        return np.array(values, np.int32)

    return decode


def _flag(row: Parameter) -> _Decode:
    """Decode true or false."""
    name = row.name
    return lambda message, _path, _context: getattr(message, name)


def _sequences(row: Parameter) -> _Decode:
    """Decode sequences of ids: to their ids, one after the other, and where each ends in them."""
    name = row.name

    def decode(
        message: Any, path: str, context: ParamsContext
    ) -> tuple[NDArray[np.int32] | None, NDArray[np.int32] | None]:
        sequences = [sequence.ids for sequence in getattr(message, name)]
        return decode_sequences(sequences, path, context) if sequences else (None, None)

    return decode


def _group(row: Parameter) -> _Decode:
    """Decode a message of parameters, in which 0 means the default; None if its first field is off."""
    name, leading = row.name, row.fields[0]
    decoders = [
        (
            field.name,
            _number(field, f"a finite number >= {field.range.low:g}")
            if field.kind is ParamKind.FLOAT
            else _DECODE[field.kind](field),
        )
        for field in row.fields
    ]

    def decode(message: Any, path: str, context: ParamsContext) -> Dry | None:
        group = getattr(message, name)
        found = {field: own(group, f"{path}.{field}", context) for field, own in decoders if getattr(group, field)}
        return None if found.get(leading.name, leading.default) == leading.off else Dry(**_spread(found, row.fields))

    return decode


def _logit_bias(row: Parameter) -> _Decode:
    """Decode ids and what is added to their logits."""
    name = row.name

    def decode(
        message: Any, path: str, context: ParamsContext
    ) -> tuple[NDArray[np.int32] | None, NDArray[np.float32] | None]:
        entries = getattr(message, name)
        ids = decode_ids([entry.id for entry in entries], path, context, member=".id")
        if ids is None:
            return None, None
        values = np.array([entry.bias for entry in entries], np.float32)
        bad = np.isnan(values) | (values == np.inf)
        if bad.any():
            at = int(bad.argmax())
            raise InvalidRequestError(f"{path}[{at}].bias", f"{values[at]} is NaN or +inf")
        if len(np.unique(ids)) != len(ids):
            raise InvalidRequestError(path, "the ids are not distinct")
        return ids, values

    return decode


def _bitmask(row: Parameter) -> _Decode:
    """Decode a mask of bits."""
    name = row.name

    def decode(message: Any, path: str, context: ParamsContext) -> bytes:
        mask: bytes = getattr(message, name)
        words = -(-context.vocab_size // 32)
        if len(mask) % 4 or len(mask) > 4 * words:
            raise InvalidRequestError(
                path, f"{len(mask)} bytes are not a multiple of 4, at most {4 * words} for V = {context.vocab_size}"
            )
        return mask

    return decode


_DECODE: dict[ParamKind, Callable[[Parameter], _Decode]] = {
    ParamKind.CHOICE: _choice,
    ParamKind.CHOICES: _choices,
    ParamKind.LOGIT_BIAS: _logit_bias,
    ParamKind.FLOAT: _number,
    ParamKind.INTEGER: _integer,
    ParamKind.FLAG: _flag,
    ParamKind.GROUP: _group,
    ParamKind.IDS: _ids,
    ParamKind.SEQUENCES: _sequences,
    ParamKind.BITMASK: _bitmask,
}


def _decoders(kind: ParamKind) -> list[tuple[str, _Decode]]:
    return [(row.name, _DECODE[kind](row)) for row in PARAMETERS if row.kind is kind]


_CHOICE_DECODERS = _decoders(ParamKind.CHOICE)
_DECODERS = [own for kind in ParamKind if kind is not ParamKind.CHOICE for own in _decoders(kind)]
"""What takes each parameter that is set from the message, in the order in which they are checked: values of
enumerations, then which exclude each other, then all others."""
