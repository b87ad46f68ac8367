"""The sampling parameters of the Python client: a table for samplerctl, and classes with typed fields."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING

from samplerd_server.sampling.parameters import PARAMETERS, ParamKind
from scripts.generate.sections import replace_sections

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from samplerd_server.sampling.parameters import Parameter

__all__ = ["classes", "readme", "table"]

_TABLE_HEAD = '''\
"""The table of the sampling parameters: generated from the server's by `make generate`; not to be edited."""

from __future__ import annotations

from samplerd_client.parameter_kinds import Parameter

'''
_CLASSES_HEAD = '''\
"""The sampling parameters as typed fields: generated from the server's table by `make generate`; not to be edited."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack

from samplerd.v1 import sampler_pb2 as pb
from samplerd_client.parameter_kinds import fill_from, setters_of
{imports}
from samplerd_client.systems import preset_fields

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from samplerd_client.parameter_kinds import {types}
    from samplerd_client.systems import System

'''
_LIKE = '''
    @classmethod
    def like(cls, system: System, **fields: Unpack[SamplingFields]) -> Self:
        """Return what a user of another sampler gets, with these fields on top: order, ties, scopes and defaults.

        Args:
            system: whose; `systems.PRESETS` says of which version.
            fields: take the place of its defaults; None leaves a default as it is.

        """
        return cls(**preset_fields(system, fields))
'''
_TYPES = {
    ParamKind.FLOAT: "float",
    ParamKind.INTEGER: "int",
    ParamKind.FLAG: "bool",
    ParamKind.IDS: "Ids",
    ParamKind.SEQUENCES: "Sequence[Ids]",
    ParamKind.LOGIT_BIAS: "Mapping[int, float]",
    ParamKind.BITMASK: "bytes | NDArray[Any]",
}
_WIDTH = 120
_GROUPS = [row for row in PARAMETERS if row.fields]


def table() -> str:
    """Give samplerd_client/parameter_table.py as text."""
    tables = {_constant_of(row): row.fields for row in _GROUPS} | {"PARAMETERS": PARAMETERS}
    parts = [_TABLE_HEAD + f"__all__ = {_strings(sorted(tables))}"]
    for name, rows in tables.items():
        entries = (textwrap.indent(_entry(row), " " * 4) for row in rows)
        parts.append("\n".join([f"{name} = (", *entries, ")"]))
    return "\n\n".join(parts) + "\n"


def classes() -> str:
    """Give samplerd_client/sampling_params.py as text."""
    constants = sorted([*map(_constant_of, _GROUPS), "PARAMETERS"])
    imports = f"from samplerd_client.parameter_table import {', '.join(constants)}"
    names = ["GROUPS", "SETTERS", *sorted([*map(_class_of, _GROUPS), "SamplingFields", "SamplingParams"])]
    types = ", ".join(sorted({"Ids", *(row.choices.__name__ for row in PARAMETERS if row.choices)}))
    parts = [_CLASSES_HEAD.format(imports=imports, types=types) + f"__all__ = {_strings(names)}"]
    parts += [_group(row) for row in _GROUPS]
    about = "How one row, or every row, is drawn from. None is the server's default."
    optional = (_field(row, f"{_type_of(row)} | None = None") for row in PARAMETERS)
    parts.append(_class("SamplingParams", about, optional, "SamplingParams", "SETTERS") + "\n" + _LIKE.rstrip())
    keywords = (f"    {row.name}: {_type_of(row)} | None" for row in PARAMETERS)
    head = [
        "class SamplingFields(TypedDict, total=False):",
        _docstring("The fields of SamplingParams as keywords."),
        "",
    ]
    parts.append("\n".join([*head, *keywords]))
    setters = [f"_{name}_SETTERS = setters_of({name})" for name in map(_constant_of, _GROUPS)]
    setters.append('SETTERS = setters_of(PARAMETERS)\n"""What sets the field of each, by its name."""')
    groups = ", ".join(f"{_string(row.name)}: {_class_of(row)}" for row in _GROUPS)
    setters += [f"GROUPS: dict[str, type[Any]] = {{{groups}}}", '"""The class of each group of parameters."""']
    parts.append("\n".join(setters))
    return "\n\n\n".join(parts) + "\n"


def readme() -> str:
    """Give client/python/README.md as text, its list of parameters renewed."""
    names = ", ".join(f"`{row.name}`" for row in PARAMETERS)
    return replace_sections("client/python/README.md", parameters=textwrap.fill(f"The parameters: {names}.", _WIDTH))


def _class_of(group: Parameter) -> str:
    return group.name.title().replace("_", "")


def _constant_of(group: Parameter) -> str:
    return group.name.upper()


def _type_of(row: Parameter) -> str:
    if row.choices is not None:
        return row.choices.__name__ if row.kind is ParamKind.CHOICE else f"Sequence[{row.choices.__name__}]"
    return _class_of(row) if row.fields else _TYPES[row.kind]


def _group(group: Parameter) -> str:
    first, *others = group.fields
    fields = [_field(first, _type_of(first)), *(_field(row, f"{_type_of(row)} | None = None") for row in others)]
    name = _class_of(group)
    return _class(name, group.help, fields, f"{name}Params", f"_{_constant_of(group)}_SETTERS")


def _field(row: Parameter, annotation: str) -> str:
    return f"    {row.name}: {annotation}\n{_docstring(row.help)}"


def _class(name: str, about: str, fields: Iterable[str], message: str, setters: str) -> str:
    return "\n".join(
        [
            "@dataclass(frozen=True, slots=True, kw_only=True)",
            f"class {name}:",
            _docstring(about),
            "",
            *fields,
            "",
            f"    def to_proto(self) -> pb.{message}:",
            '        """Return the message; TypeError or ValueError, naming the field, where a value does not fit."""',
            f"        return fill_from(pb.{message}(), self, {setters})",
        ]
    )


def _docstring(text: str) -> str:
    indent = " " * 4
    return textwrap.fill(f'"""{text}"""', _WIDTH, initial_indent=indent, subsequent_indent=indent)


def _entry(row: Parameter) -> str:
    """Write a row of the client's table as ruff formats it: on one line, on three, or an argument a line."""
    arguments = [*map(_string, (row.name, row.kind.name.lower(), row.metavar, row.help))]
    if row.fields:
        arguments.append(_constant_of(row))
    line = ", ".join(arguments)
    if len(line) + len("    Parameter(),") <= _WIDTH:
        return f"Parameter({line}),"
    if len(line) + 8 <= _WIDTH:
        return f"Parameter(\n    {line}\n),"
    arguments[3] = "\n".join(_string(part) for part in textwrap.wrap(row.help, _WIDTH - 12, drop_whitespace=False))
    return "Parameter(\n" + "".join(textwrap.indent(f"{argument},\n", " " * 4) for argument in arguments) + "),"


def _string(text: str) -> str:
    return json.dumps(text)


def _strings(texts: Sequence[str]) -> str:
    return json.dumps(list(texts))
