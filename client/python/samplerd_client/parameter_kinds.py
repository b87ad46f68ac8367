"""Kinds of sampling parameters: how a value of each kind gets into its field of a message.

Rule 1: nothing here knows a parameter by name; `sampling_params`, which is generated, lists them. Rule 2: ranges are
the server's to check. Rule 3: numpy is not imported; an array is met through its methods. A new kind is an entry of
`Kind` and of `_SETTERS` here, and one of `samplerctl.sampling_flags`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from google.protobuf.descriptor import FieldDescriptor
    from google.protobuf.message import Message
    from numpy.typing import NDArray

__all__ = [
    "FilterStep",
    "Ids",
    "Kind",
    "Order",
    "Parameter",
    "PenaltyScope",
    "Setter",
    "TieRule",
    "XtcExemption",
    "choices",
    "fill",
    "fill_from",
    "integers",
    "setters_of",
]

Ids: TypeAlias = "Sequence[int] | NDArray[Any]"
"""Integers: a list, or a numpy array."""

Order: TypeAlias = Literal["hugging_face", "vllm", "llama_cpp", "joint"]
"""Whose order of filters."""

FilterStep: TypeAlias = Literal[
    "temperature",
    "top_n_sigma",
    "top_k",
    "top_p",
    "min_p",
    "top_a",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
    "xtc",
    "top_h",
]
"""A step of an order of one's own: the temperature, or a filter."""

TieRule: TypeAlias = Literal["lowest_id", "all", "highest_id", "hugging_face", "mlx_lm"]
"""Which of several equal categories a filter keeps where it cuts; two values are named after systems."""

PenaltyScope: TypeAlias = Literal["history", "output"]
"""Which tokens of history a penalty looks at: all of them, or those that follow the prompt."""

XtcExemption: TypeAlias = Literal["token", "row"]
"""What XTC spares where it would drop an exempt token: that token, or the whole row."""

Kind: TypeAlias = Literal[
    "float", "integer", "flag", "choice", "choices", "ids", "sequences", "logit_bias", "bitmask", "group"
]
"""What kind of value a parameter has: a number; a whole number >= 0; true or false; one of several names; some of them,
in order; `Ids`; sequences of `Ids`; numbers by id; int32 words of bits; several parameters under one name."""


class Parameter(NamedTuple):
    """What the client knows of a sampling parameter."""

    name: str
    """Its field in the contract, and its keyword."""
    kind: Kind
    metavar: str
    """What stands for its value in the help of samplerctl."""
    help: str
    """One sentence: what it does, and when it does nothing."""
    members: tuple[Parameter, ...] = ()
    """The parameters of a group. The first is required."""


def choices(field: FieldDescriptor) -> dict[str, int]:
    """Return the numbers of the values of a field's enumeration, by their names in lower case, without its own."""
    assert field.enum_type is not None, f"{field.name} is no enumeration. This is a bug."
    names = {value.number: value.name for value in field.enum_type.values}
    prefix = names.pop(0).removesuffix("UNSPECIFIED")
    return {name.removeprefix(prefix).lower(): number for number, name in names.items()}


def integers(values: Ids) -> Iterable[int]:
    """Return the values in a form that protobuf takes quickly."""
    tolist: Callable[[], list[int]] | None = getattr(values, "tolist", None)
    return cast("Sequence[int]", values) if tolist is None else tolist()


Setter: TypeAlias = "Callable[[Any, str, Any], None]"
"""Sets the field of a message, by name, to a value."""

_Message = TypeVar("_Message", bound="Message")


def setters_of(parameters: Sequence[Parameter]) -> dict[str, Setter]:
    """Return what sets the field of each parameter, by its name."""
    return {parameter.name: _SETTERS[parameter.kind] for parameter in parameters}


def fill(message: _Message, values: Mapping[str, Any], setters: Mapping[str, Setter]) -> _Message:
    """Set these fields of the message, and return it. None leaves a field unset.

    Raises:
        TypeError, ValueError: a field cannot hold its value; the text begins with the field's name.

    """
    for name, value in values.items():
        if value is None:
            continue
        try:
            setters[name](message, name, value)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name}: {error}") from error
    return message


def fill_from(message: _Message, source: object, setters: Mapping[str, Setter]) -> _Message:
    """Set the fields of the message to the attributes of these names, as `fill` does."""
    return fill(message, {name: getattr(source, name) for name in setters}, setters)


def _set_integer(message: Any, name: str, value: Any) -> None:
    try:
        setattr(message, name, value)
    except ValueError as error:
        raise ValueError(f"must be a whole number from 0 to {2**32 - 1:,}; got {value!r}") from error


def _set_choice(message: Any, name: str, value: Any) -> None:
    numbers = choices(message.DESCRIPTOR.fields_by_name[name])
    if value not in numbers:
        raise ValueError(f"must be one of {', '.join(numbers)}; got {value!r}")
    setattr(message, name, numbers[value])


def _set_choices(message: Any, name: str, value: Any) -> None:
    numbers = choices(message.DESCRIPTOR.fields_by_name[name])
    if isinstance(value, str):
        raise TypeError(f"must be a sequence of names, as in [{value!r}]")
    for own in value:
        if own not in numbers:
            raise ValueError(f"each must be one of {', '.join(numbers)}; got {own!r}")
    getattr(message, name).extend(numbers[own] for own in value)


def _set_ids(message: Any, name: str, value: Any) -> None:
    getattr(message, name).extend(integers(value))


def _set_sequences(message: Any, name: str, value: Any) -> None:
    entries = getattr(message, name)
    for sequence in value:
        if isinstance(sequence, str) or not hasattr(sequence, "__iter__"):
            raise TypeError(f"must be sequences of ids, as in [[3], [17, 25]]; got {sequence!r} for one")
        entries.add(ids=integers(sequence))


def _set_logit_bias(message: Any, name: str, value: Any) -> None:
    entries = getattr(message, name)
    for token, bias in value.items():
        entries.add(id=token, bias=bias)


def _set_bitmask(message: Any, name: str, value: Any) -> None:
    array = value.numpy() if hasattr(value, "numpy") else value  # a tensor of torch or TensorFlow
    if hasattr(array, "astype"):
        words = array.astype("<i4", casting="same_kind")
        if getattr(words, "mask", None) is not None and words.mask.any():
            raise ValueError("some words are masked, as numpy.ma masks; fill them first")
        data = words.tobytes()
    elif isinstance(array, (bytes, bytearray, memoryview)):
        data = bytes(array)
    else:
        raise TypeError(f"must be bytes, or an array of int32 words; got {type(value).__name__}")
    setattr(message, name, data)


def _set_group(message: Any, name: str, value: Any) -> None:
    if not hasattr(value, "to_proto"):
        own_class = name.title().replace("_", "")
        raise TypeError(f"must be of the class {own_class} of samplerd_client; got {type(value).__name__}")
    getattr(message, name).CopyFrom(value.to_proto())


_SETTERS: dict[Kind, Setter] = {
    "float": setattr,
    "integer": _set_integer,
    "flag": setattr,
    "choice": _set_choice,
    "choices": _set_choices,
    "ids": _set_ids,
    "sequences": _set_sequences,
    "logit_bias": _set_logit_bias,
    "bitmask": _set_bitmask,
    "group": _set_group,
}
