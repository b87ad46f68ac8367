"""How the parameters of one row lie in its record: derived from the table.

A number is a field of its own name. A list is the address of its items (`history`) and their number (`history_len`; of
a bitmask its int32 words). Sequences are two lists: the ids of all (`bad_words_ids`), and where each ends among them
(`bad_words_ends`). A mask also says whether it was given (`has_allowed_tokens`): an empty one forbids all.
The fields of a group begin with its name (`dry_base`). The temperature is not here: it stands in the part of the record
that differs in every row (`sampling.rows`).
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from samplerd_server.core.enums import Step
from samplerd_server.core.params import Dry
from samplerd_server.sampling.parameters.parameter import ParamKind
from samplerd_server.sampling.parameters.table import PARAMETERS, PLAIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from samplerd_server.core.params import SamplingParams
    from samplerd_server.sampling.parameters.parameter import Parameter

__all__ = ["LISTS", "LIST_FIELDS", "NUMBER_FIELDS", "RecordField", "lists_of", "numbers_of"]


class RecordField(NamedTuple):
    """One field of a record."""

    name: str
    code: str
    """Its numpy type."""
    default: float
    """What it holds where the parameters are plain."""


class _List(NamedTuple):
    """A list that a record points to."""

    name: str
    unit: int
    """What len() of the list says of one item: 4 for the bytes of a bitmask, else 1."""
    is_mask: bool


_CODES = {ParamKind.FLOAT: "f8", ParamKind.INTEGER: "i4", ParamKind.CHOICE: "u1", ParamKind.FLAG: "u1"}
_LIST_KINDS = (ParamKind.IDS, ParamKind.CHOICES, ParamKind.LOGIT_BIAS, ParamKind.SEQUENCES, ParamKind.BITMASK)
_MASKS = (ParamKind.BITMASK, ParamKind.IDS)
_IN_RECORD = [row for row in PARAMETERS if row.name not in PLAIN]
_DRY = next(row for row in PARAMETERS if row.name == "dry").fields
assert [row.name for row in PARAMETERS if row.fields] == ["dry"], "only one group is packed. This is a bug."


def _numbers(rows: Iterable[Parameter]) -> list[Parameter]:
    """List the rows that are numbers, the widest first, so that the record has little padding."""
    return sorted((row for row in rows if row.kind in _CODES), key=lambda row: -int(_CODES[row.kind][1]))


def _number_fields(rows: Iterable[Parameter], prefix: str = "") -> list[RecordField]:
    return [RecordField(prefix + row.name, _CODES[row.kind], _default(row)) for row in _numbers(rows)]


def _default(row: Parameter) -> float:
    if row.kind is ParamKind.CHOICE and row.choices is not None:
        return next(iter(row.choices))
    return row.default or 0


def _lists(rows: Iterable[Parameter], prefix: str = "") -> list[_List]:
    return [
        _List(prefix + name, 4 if row.kind is ParamKind.BITMASK else 1, row.step is Step.MASK and row.kind in _MASKS)
        for row in rows
        if row.kind in _LIST_KINDS
        for name in row.attributes
    ]


NUMBER_FIELDS = (*_number_fields(_IN_RECORD), *_number_fields(_DRY, "dry_"))
"""The fields of numbers, in the order of `numbers_of`."""
LISTS = (*_lists(_IN_RECORD), *_lists(_DRY, "dry_"))
"""What a record points to, in the order of `lists_of`."""
LIST_FIELDS = (
    *(RecordField(own.name, "u8", 0) for own in LISTS),
    *(RecordField(f"{own.name}_len", "i4", 0) for own in LISTS),
    *(RecordField(f"has_{own.name}", "u1", 0) for own in LISTS if own.is_mask),
)
"""The fields of lists: all addresses, all lengths, and whether each mask was given."""


def _getter(names: list[str]) -> Callable[[object], tuple[Any, ...]]:
    """Make the function that gives these attributes of an object, always as a tuple."""
    if len(names) > 1:
        return attrgetter(*names)
    get = attrgetter(*names)
    return lambda entity: (get(entity),)


_own_numbers = _getter([row.name for row in _numbers(_IN_RECORD)])
_dry_numbers = _getter([row.name for row in _numbers(_DRY)])
_own_lists = _getter([own.name for own in _lists(_IN_RECORD)])
_dry_lists = _getter([own.name for own in _lists(_DRY)])
_NO_DRY_NUMBERS, _NO_DRY_LISTS = _dry_numbers(Dry()), _dry_lists(Dry())


def numbers_of(params: SamplingParams) -> tuple[Any, ...]:
    """Return the values of `NUMBER_FIELDS`, in order."""
    return _own_numbers(params) + (_NO_DRY_NUMBERS if params.dry is None else _dry_numbers(params.dry))


def lists_of(params: SamplingParams) -> tuple[Any, ...]:
    """Return what `LISTS` names, in order: arrays or bytes; None = not given."""
    return _own_lists(params) + (_NO_DRY_LISTS if params.dry is None else _dry_lists(params.dry))
