"""A value for every sampling parameter, as the Python client takes it, from the client's own table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from samplerd_client.parameter_table import PARAMETERS
from samplerd_client.sampling_params import GROUPS

if TYPE_CHECKING:
    from samplerd_client.parameter_kinds import Kind, Parameter

__all__ = ["every_flag", "every_value"]

VALUES: dict[Kind, Any] = {
    "float": 0.25,
    "integer": 3,
    "order": "vllm",
    "ids": [5, 6],
    "logit_bias": {2: -1.5},
    "bitmask": b"\xff\0\0\0",
}
TEXTS: dict[Kind, str] = {
    "float": "0.25",
    "integer": "3",
    "order": "vllm",
    "ids": "5,6",
    "logit_bias": "2:-1.5",
    "bitmask": "ff000000",
}
"""The same on the command line."""


def every_value() -> dict[str, Any]:
    """Keywords that give every parameter."""
    return {row.name: _value(row) for row in PARAMETERS}


def every_flag() -> list[str]:
    """Arguments of samplerctl that give every parameter."""
    flags = {row.name: row.kind for row in PARAMETERS if not row.members}
    flags |= {f"{row.name}_{member.name}": member.kind for row in PARAMETERS for member in row.members}
    return [part for name, kind in flags.items() for part in ("--" + name.replace("_", "-"), TEXTS[kind])]


def _value(row: Parameter) -> Any:
    if row.members:
        return GROUPS[row.name](**{member.name: _value(member) for member in row.members})
    return VALUES[row.kind]
