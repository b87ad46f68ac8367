"""Sampling parameters, from parameters of a request and from its small tensors.

A parameter of the request, or a tensor of one number, is for all rows; a tensor of as many numbers as there are rows is
for each. The names are those of the contract. The table of parameters (`sampling.parameters`) says which of
them are numbers, and so can be given here. A number may be written as text ("0.7"): there are clients whose parameters
can be nothing else.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.core.errors import InvalidRequestError
from samplerd_server.sampling import parameters as table
from samplerd_server.sampling.parameters import ParamKind
from samplerd_server.transport.oip.echo import shown, shown_shape

if TYPE_CHECKING:
    from samplerd_server.transport.oip.tensors import Input

__all__ = ["PARAMETERS", "set_parameter", "set_tensor", "timeout_of"]

_NUMBERS = {ParamKind.FLOAT: float, ParamKind.INTEGER: int}
PARAMETERS: dict[str, type] = {row.name: _NUMBERS[row.kind] for row in table.PARAMETERS if row.kind in _NUMBERS}
"""The sampling parameters that are numbers, and what numbers they are."""
_CHOICES = {
    row.name: {own.name.lower(): int(own) for own in row.choices} for row in table.PARAMETERS if row.choices is not None
}
"""The sampling parameters that name values of an enumeration, with the number of each value."""
_LISTS = frozenset(row.name for row in table.PARAMETERS if row.kind is ParamKind.CHOICES)
"""Those that name several, between commas."""
_FLAGS = frozenset(row.name for row in table.PARAMETERS if row.kind is ParamKind.FLAG)
"""The sampling parameters that are true or false."""
_WHOLE = ("num_samples", "seed", "draw_offset")
"""Whole numbers of SampleRequest."""
_BOUNDS = {"num_samples": 1 << 32, "seed": 1 << 64, "draw_offset": 1 << 64}
_LOWEST_PRIORITY = 101
_MAX_CHOICES = 64
_WHOLE_TEXT = re.compile(r"[+-]?[0-9]{1,40}")
_NUMBER_TEXT = re.compile(r"[+-]?([0-9]{1,40}(\.[0-9]{0,40})?|\.[0-9]{1,40})([eE][+-]?[0-9]{1,4})?")
_FLAG_TEXTS = {"true": True, "false": False}
_LOGPROBS = {name.removeprefix("LOGPROB_KIND_").lower(): number for name, number in pb.LogprobKind.items() if number}
_IGNORED = ("triton_", "headers", "binary_data")
"""How the names of parameters begin that clients send to any server, and that say nothing to this one."""


def set_parameter(message: pb.SampleRequest, key: str, value: Any) -> None:
    """Take one parameter of a request, for all rows.

    Raises:
        InvalidRequestError: there is none of this name, or its value is of a wrong kind.

    """
    path = f"parameters.{key}"
    if key in PARAMETERS:
        setattr(message.params, key, _number(value, PARAMETERS[key], path))
    elif key in _WHOLE:
        setattr(message, key, _whole(value, _BOUNDS[key], path))
    elif key == "replacement":
        message.replacement = pb.REPLACEMENT_WITH if _flag(value, path) else pb.REPLACEMENT_WITHOUT
    elif key in _FLAGS:
        setattr(message.params, key, _flag(value, path))
    elif key in _LISTS:
        names = value.replace(",", " ").split(maxsplit=_MAX_CHOICES) if isinstance(value, str) else [value]
        getattr(message.params, key).extend(_choice(own, _CHOICES[key], path) for own in names)
    elif key in _CHOICES:
        setattr(message.params, key, _choice(value, _CHOICES[key], path))
    elif key == "logprobs":
        message.outputs.logprobs.append(_choice(value, _LOGPROBS, path))
    elif key == "priority":
        message.priority = _priority(value, path)
    elif not key.startswith(_IGNORED):
        raise InvalidRequestError("parameters", f"the model has no parameter {shown(key)}")


def set_tensor(message: pb.SampleRequest, tensor: Input, rows: int) -> None:
    """Take a tensor of parameters: one number for all rows, or one for each.

    Raises:
        InvalidRequestError: it has another number of them, or one is of a wrong kind, or it was given before.
        NotImplementedFieldError: it is in shared memory.

    """
    name, values = tensor.name, tensor.numbers().tolist()
    if len(values) not in {1, rows} or len(tensor.shape) > 2 or (len(tensor.shape) == 2 and tensor.shape[1] != 1):
        raise InvalidRequestError(f"{name}.shape", f"{shown_shape(tensor.shape)} is none of [1], [{rows}], [{rows}, 1]")
    if _is_set(message, name):
        raise InvalidRequestError(name, "is a parameter of the request and an input")
    if len(values) == 1 or name in {"num_samples", "draw_offset"}:
        if len(set(values)) > 1:
            raise InvalidRequestError(name, "must be the same in every row")
        if name in PARAMETERS and message.row_params:
            for params in message.row_params:
                setattr(params, name, _number(values[0], PARAMETERS[name], name))
        else:
            set_parameter(message, name, values[0])
    elif name == "seed":
        message.row_seeds.extend(_whole(value, _BOUNDS["seed"], name) for value in values)
    else:
        _spread(message, rows)
        for params, value in zip(message.row_params, values, strict=True):
            setattr(params, name, _number(value, PARAMETERS[name], name))


def _is_set(message: pb.SampleRequest, name: str) -> bool:
    if name in PARAMETERS:
        own = message.row_params[0] if message.row_params else message.params
        return any(field.name == name for field, _ in own.ListFields())
    if name == "seed":
        return message.HasField("seed") or bool(message.row_seeds)
    return bool(getattr(message, name))


def _spread(message: pb.SampleRequest, rows: int) -> None:
    """Give each row its own parameters, to begin with those of all."""
    if not message.row_params:
        message.row_params.extend([message.params] * rows)
        message.ClearField("params")


def timeout_of(value: Any) -> float | None:
    """Convert the protocol's timeout, in microseconds, to seconds; None: it is 0, and there is none.

    Raises:
        InvalidRequestError: it is no whole number of microseconds.

    """
    return _whole(value, 1 << 63, "parameters.timeout") / 1e6 or None


def _read(value: Any) -> Any:
    """Give the number that a text stands for; anything else stays as it is."""
    if isinstance(value, str):
        if _WHOLE_TEXT.fullmatch(value):
            return int(value)
        if _NUMBER_TEXT.fullmatch(value):
            return float(value)
    return value


def _number(value: Any, kind: type, path: str) -> float | int:
    value = _read(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRequestError(path, f"{shown(value)} is no number")
    return float(value) if kind is float else _whole(value, 1 << 32, path)


def _whole(value: Any, bound: int, path: str) -> int:
    value = _read(value)
    is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not is_whole or not 0 <= value < bound:
        raise InvalidRequestError(path, f"{shown(value)} is no whole number from 0 to {bound - 1}")
    return int(value)


def _flag(value: Any, path: str) -> bool:
    if isinstance(value, str):
        value = _FLAG_TEXTS.get(value.lower(), value)
    if not isinstance(value, bool):
        raise InvalidRequestError(path, f"{shown(value)} is neither true nor false")
    return value


def _choice(value: Any, choices: dict[str, Any], path: str) -> Any:
    if value not in choices:
        raise InvalidRequestError(path, f"{shown(value)} is none of {', '.join(choices)}")
    return choices[value]


def _priority(value: Any, path: str) -> int:
    """Give our priority for the protocol's: 0 says nothing, 1 goes first, and what is larger goes later."""
    number = _whole(value, _LOWEST_PRIORITY + 1, path)
    return 1 - number if number else 0
