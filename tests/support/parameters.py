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
    "flag": True,
    "choices": ["top_k", "temperature"],
    "ids": [5, 6],
    "sequences": [[1, 2], [3]],
    "logit_bias": {2: -1.5},
    "bitmask": b"\xff\0\0\0",
}
CHOICES = {"order": "vllm", "ties": "all", "xtc_exemption": "row"} | {
    row.name: "output" for row in PARAMETERS if row.kind == "choice" and row.name.endswith("_scope")
}
"""The last name of each parameter's enumeration would do as well."""
TEXTS: dict[Kind, str] = {
    "float": "0.25",
    "integer": "3",
    "choices": "top_k,temperature",
    "ids": "5,6",
    "sequences": "1,2;3",
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
    return [part for name, kind in flags.items() for part in _flag(name, kind)]


def _flag(name: str, kind: Kind) -> tuple[str, ...]:
    flag = "--" + name.replace("_", "-")
    if kind == "choice":
        return (flag, CHOICES[name])
    return (flag,) if kind == "flag" else (flag, TEXTS[kind])


def _value(row: Parameter) -> Any:
    if row.members:
        return GROUPS[row.name](**{member.name: _value(member) for member in row.members})
    return CHOICES[row.name] if row.kind == "choice" else VALUES[row.kind]
