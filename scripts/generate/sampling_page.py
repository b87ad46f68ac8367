"""The tables of docs/sampling.md that follow from the server's table of sampling parameters."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from samplerd_server.core.enums import Step
from samplerd_server.sampling.parameters import ORDERS, PARAMETERS, ParamKind
from scripts.generate.figures import disagreements
from scripts.generate.sections import replace_sections

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from samplerd_server.sampling.parameters import Parameter, Range

__all__ = ["page"]

_PAGE = "docs/sampling.md"
# As the page's table of the pipeline numbers them.
_STEPS = {
    Step.GUIDANCE: "1b guidance",
    Step.MASK: "2 mask",
    Step.BIAS: "3 bias",
    Step.PENALTIES: "4 penalties",
    Step.TEMPERATURE: "6 temperature",
    Step.FILTERS: "7 filters",
    Step.DRAW: "8 draw",
}
_VALUES = {
    ParamKind.INTEGER: "whole, at least 0",
    ParamKind.FLAG: "true or false",
    ParamKind.IDS: "ids in [0, V)",
    ParamKind.SEQUENCES: "sequences of ids in [0, V), none empty",
    ParamKind.LOGIT_BIAS: "distinct ids in [0, V), each with a number that is neither NaN nor +inf",
    ParamKind.BITMASK: "at most ceil(V / 32) words",
    ParamKind.GROUP: "the parameters below",
}


def page() -> str:
    """Give the page as text, its generated sections renewed."""
    return replace_sections(
        _PAGE, parameters=_parameters(), orders=_orders(), candidates=_candidates(), disagreements=disagreements()
    )


def _parameters() -> str:
    """Say of each parameter what it does, in the order in which the steps of the pipeline come."""
    lines = ["| parameter | step | what it does | values | off | source |", "|---|---|---|---|---|---|"]
    for row in sorted(PARAMETERS, key=lambda row: row.step):
        for name, own in _with_fields(row):
            cells = (f"`{name}`", _STEPS[own.step], own.help, _values(own), _number(own.off), own.source or row.source)
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _with_fields(row: Parameter) -> Iterator[tuple[str, Parameter]]:
    yield row.name, row
    for field in row.fields:
        yield f"{row.name}.{field.name}", field


def _values(row: Parameter) -> str:
    if row.choices is not None:
        names = ", ".join(f"`{own.name.lower()}`" for own in row.choices)
        return names if row.kind is ParamKind.CHOICE else f"each at most once: {names}"
    return _VALUES.get(row.kind) or _interval(row.range)


def _interval(numbers: Range) -> str:
    """Write an interval as people do: a half-line in words."""
    above = "above" if numbers.low_is_open else "at least"
    if not math.isinf(numbers.low) and math.isinf(numbers.high):
        return f"{above} {_number(numbers.low)}"
    if math.isinf(numbers.low) and math.isinf(numbers.high):
        return "any finite number"
    low = "(" if numbers.low_is_open else "["
    high = ")" if numbers.high_is_open else "]"
    return f"{low}{_number(numbers.low)}, {_number(numbers.high)}{high}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _orders() -> str:
    """Say of each order in which order the temperature and the filters come."""
    lines = ["| `order` | steps 6 and 7 |", "|---|---|"]
    for number, (order, steps) in enumerate(ORDERS.items()):
        default = " (default)" if number == 0 else ""
        lines.append(f"| `ORDER_{order.name}`{default} | {', '.join(steps)} |")
    return "\n".join(lines)


def _candidates() -> str:
    """Say with which parameters a row of candidates can be drawn from; those that say the same share a line."""
    texts = {row.name: row.decided_with_candidates for row in PARAMETERS if row.decided_with_candidates}
    together: dict[str, list[str]] = {}
    for name, text in texts.items():
        together.setdefault(texts.get(text.removeprefix("as "), text), []).append(name)
    lines = ["| a row that uses | is decided |", "|---|---|"]
    lines += [f"| {_names(names)} | {text} |" for text, names in together.items()]
    return "\n".join(lines)


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
