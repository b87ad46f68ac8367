"""What the page's playground loads: the table of parameters, and rows of the character model after a few texts."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from examples.charlm.model import CharModel
from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.core.enums import Step
from samplerd_server.sampling.parameters import PARAMETERS, Parameter, ParamKind

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor

__all__ = ["parameters", "rows"]

_MESSAGE: Descriptor = pb.SamplingParams.DESCRIPTOR
_GROUPS = (
    ("Temperature", (Step.TEMPERATURE,)),
    ("Filters", (Step.FILTERS,)),
    ("Penalties", (Step.PENALTIES,)),
    ("Biases and masks", (Step.BIAS, Step.MASK)),
    ("The draw", (Step.DRAW,)),
)
"""Titles of the form, and the steps of the pipeline under each. Guidance is left out: it takes a second row."""
_OPEN = 2
"""How many groups are unfolded at first."""
_SLIDERS = {
    "temperature": (0.0, 2.0),
    "top_n_sigma": (0.0, 4.0),
    "smoothing_factor": (0.0, 2.0),
    "repetition_penalty": (0.5, 2.0),
    "frequency_penalty": (-2.0, 2.0),
    "presence_penalty": (-2.0, 2.0),
}
"""The ends of sliders whose parameters have no bound, or none that anybody reaches."""
_TEXTS = (
    "The ",
    "I am not a ro",
    "What do you think of th",
    "It was the best of tim",
    "Today I learned that ",
    "How to ",
    "This is my first ",
    "Can someone explain wh",
    "1, 2, 3, ",
    "Thank yo",
)


def parameters() -> str:
    """Give the form's groups as JSON, each with its parameters in the contract's order."""
    groups = [
        {
            "title": title,
            "is_open": index < _OPEN,
            "parameters": [entry for row in PARAMETERS if row.step in steps for entry in _entries(row, _MESSAGE, "")],
        }
        for index, (title, steps) in enumerate(_GROUPS)
    ]
    return json.dumps(groups, indent=1) + "\n"


def _entries(row: Parameter, message: Descriptor, prefix: str) -> list[dict[str, Any]]:
    if row.kind is ParamKind.GROUP:
        inner = message.fields_by_name[row.name].message_type
        assert inner is not None
        return [entry for own in row.fields for entry in _entries(own, inner, f"{row.name}.")]
    entry: dict[str, Any] = {
        "path": prefix + row.name,
        "label": f"{prefix.rstrip('.')} {row.name}".strip().replace("_", " "),
        "kind": row.kind.name,
        "help": row.help,
    }
    if row.kind in {ParamKind.FLOAT, ParamKind.INTEGER}:
        entry |= {"default": row.default, "range": str(row.range)}
        if row.kind is ParamKind.FLOAT and (ends := _slider(row)) is not None:
            entry["slider"] = ends
    elif row.kind in {ParamKind.CHOICE, ParamKind.CHOICES}:
        enumeration = message.fields_by_name[row.name].enum_type
        assert enumeration is not None
        names = [own.name for own in enumeration.values]
        entry["choices"] = names if row.kind is ParamKind.CHOICE else names[1:]
        prefix = names[0].removesuffix("UNSPECIFIED")
        entry["example"] = ", ".join(name.removeprefix(prefix).lower() for name in names[1:3])
    else:
        entry["example"] = row.metavar
    return [entry]


def _slider(row: Parameter) -> tuple[float, float, float] | None:
    """Give the least number, the largest one and the step of a parameter's slider; None = it has none."""
    low, high = _SLIDERS.get(row.name, (row.range.low, row.range.high))
    if not math.isfinite(high - low):
        return None
    step = (high - low) / 200
    return (low + step if row.range.low_is_open else low), (high - step if row.range.high_is_open else high), step


def rows() -> str:
    """Give the model's characters, and the logits that it gives after each text, as JSON; null stands for -inf."""
    model = _exact(CharModel.load())
    logits = model.logits(model.windows([model.encode(text) for text in _TEXTS]))
    lines = [
        {"text": text, "logits": [round(float(value), 3) if np.isfinite(value) else None for value in row]}
        for text, row in zip(_TEXTS, logits, strict=True)
    ]
    body = ",\n".join(json.dumps(line, separators=(",", ":")) for line in lines)
    return f'{{"characters": {json.dumps(model.chars)},\n"rows": [\n{body}\n]}}\n'


def _exact(model: CharModel) -> CharModel:
    """Let the model work in float64, so that every machine rounds its logits to the same decimals."""
    layers = [dataclasses.replace(layer, **_wide(layer)) for layer in model.layers]
    return dataclasses.replace(model, layers=(layers[0], layers[1]), **_wide(model))


def _wide(part: Any) -> dict[str, Any]:
    values = {own.name: getattr(part, own.name) for own in dataclasses.fields(part)}
    return {name: value.astype(np.float64) for name, value in values.items() if isinstance(value, np.ndarray)}
