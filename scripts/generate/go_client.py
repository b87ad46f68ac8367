"""The sampling parameters of the Go client: an option for each."""

from __future__ import annotations

import textwrap

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.sampling.parameters import PARAMETERS, Parameter, ParamKind

__all__ = ["module"]

_HEAD = """\
// Code generated from the server's table of sampling parameters by `make generate`. DO NOT EDIT.

package samplerd

import pb "samplerd.dev/go/samplerd/v1"
"""
_ARGUMENTS = {
    ParamKind.FLOAT: ("value float64", "value"),
    ParamKind.INTEGER: ("value int", "uint32(value)"),
    ParamKind.FLAG: ("value bool", "value"),
    ParamKind.CHOICE: ("{argument} pb.{enumeration}", "{argument}"),
    ParamKind.CHOICES: ("{argument}s ...pb.{enumeration}", "{argument}s"),
    ParamKind.IDS: ("ids ...int32", "ids"),
    ParamKind.SEQUENCES: ("sequences ...*pb.TokenSequence", "sequences"),
    ParamKind.LOGIT_BIAS: ("biases ...*pb.LogitBias", "biases"),
    ParamKind.BITMASK: ("words []byte", "words"),
    ParamKind.GROUP: ("all *pb.{name}Params", "all"),
}
"""For each kind the argument of its option, and what is set to it."""


def module() -> str:
    """Give client/go/params.go as text."""
    return "\n".join([_HEAD, *map(_option, PARAMETERS)])


def _option(row: Parameter) -> str:
    name = "".join(part.capitalize() for part in row.name.split("_"))
    enumeration = row.choices.__name__ if row.choices else ""
    words = {"name": name, "enumeration": enumeration, "argument": enumeration[:1].lower() + enumeration[1:]}
    argument, value = (text.format_map(words) for text in _ARGUMENTS[row.kind])
    # A scalar that can be absent is a pointer.
    if pb.SamplingParams.DESCRIPTOR.fields_by_name[row.name].has_presence and not row.fields:
        value = f"&{value}"
    about = textwrap.wrap(f"{name} sets {row.name}. {row.help}", 117)
    lines = [f"// {line}" for line in about]
    body = f"params(r).{name} = {value}"
    lines += [f"func {name}({argument}) Option {{", f"\treturn func(r *pb.SampleRequest) {{ {body} }}", "}"]
    return "\n".join(lines) + "\n"
