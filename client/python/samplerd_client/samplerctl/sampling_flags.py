"""The flags of the sampling parameters, from the client's table of them: what is offered, and what was given.

Nothing here knows a parameter by name. A group is a flag for each of its parameters, ``--dry-multiplier``; the first of
them makes the group. ``--like`` puts the flags that were given on top of what another sampler does by default.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from samplerd.v1 import sampler_pb2 as pb
from samplerd_client.parameter_kinds import choices
from samplerd_client.parameter_table import PARAMETERS
from samplerd_client.samplerctl.flag_values import InputError, hexadecimal, integers, names, parse_bias, sequences
from samplerd_client.sampling_params import GROUPS
from samplerd_client.systems import PRESETS, preset_fields

if TYPE_CHECKING:
    import argparse

    from samplerd_client.options import SampleOptions
    from samplerd_client.parameter_kinds import Kind, Parameter
    from samplerd_client.sampling_params import SamplingFields

__all__ = ["add_sampling_flags", "sampling_options"]

_READ: dict[Kind, dict[str, Any]] = {
    "float": {"type": float},
    "integer": {"type": int},
    "flag": {"action": "store_true", "default": None},
    "choice": {},
    "choices": {"type": names},
    "ids": {"type": integers},
    "sequences": {"type": sequences},
    "logit_bias": {"type": parse_bias},
    "bitmask": {"type": hexadecimal},
}
"""How argparse reads a value of each kind. A group has flags of its own."""


def add_sampling_flags(parser: argparse.ArgumentParser) -> None:
    """Offer a flag for every sampling parameter."""
    group = parser.add_argument_group("sampling parameters")
    group.add_argument(
        "--like",
        choices=tuple(PRESETS),
        help="Begin with the defaults, the order, the ties and the scopes of this sampler; the flags below take their "
        "place.",
    )
    for parameter in PARAMETERS:
        if parameter.members:
            for member in parameter.members:
                _add(group, member, f"{parameter.name}_{member.name}")
        else:
            _add(group, parameter, parameter.name)


def sampling_options(args: argparse.Namespace) -> SampleOptions:
    """Return the sampling parameters that were given.

    Raises:
        InputError: a flag of a group was given without the one that makes the group.

    """
    options = {}
    for parameter in PARAMETERS:
        value = _group_of(parameter, args) if parameter.members else getattr(args, parameter.name)
        if value is not None:
            options[parameter.name] = value
    fields = options if args.like is None else preset_fields(args.like, cast("SamplingFields", options))
    return cast("SampleOptions", fields)


def _add(group: argparse._ArgumentGroup, parameter: Parameter, name: str) -> None:
    reading = dict(_READ[parameter.kind])
    text = parameter.help
    if parameter.kind == "choice":
        reading["choices"] = tuple(choices(pb.SamplingParams.DESCRIPTOR.fields_by_name[parameter.name]))
    elif parameter.kind != "flag":
        reading["metavar"] = parameter.metavar
    if parameter.kind == "choices":
        text += f" Each is one of {', '.join(choices(pb.SamplingParams.DESCRIPTOR.fields_by_name[parameter.name]))}."
    group.add_argument(_flag(name), dest=name, help=text.replace("%", "%%"), **reading)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _group_of(parameter: Parameter, args: argparse.Namespace) -> Any:
    """Return the group as the client takes it, or None if no flag of it was given."""
    values = {member.name: getattr(args, f"{parameter.name}_{member.name}") for member in parameter.members}
    given = {name: value for name, value in values.items() if value is not None}
    if not given:
        return None
    first = parameter.members[0].name
    if first not in given:
        flags = ", ".join(_flag(f"{parameter.name}_{name}") for name in given)
        raise InputError(f"{flags}: give {_flag(f'{parameter.name}_{first}')} too")
    return GROUPS[parameter.name](**given)
