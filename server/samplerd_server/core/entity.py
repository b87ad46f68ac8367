"""What entities are made with: plain values that cross layers, frozen for the type checker."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar, dataclass_transform

__all__ = ["Buffer", "entity"]

Buffer: TypeAlias = bytes | memoryview
_Entity = TypeVar("_Entity")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def entity(cls: type[_Entity]) -> type[_Entity]:
    """Make a dataclass that the type checker holds frozen.

    At run time it is a plain one: a frozen one sets each field through ``object.__setattr__``, and the entities on the
    path of every request have some forty fields, which took 3 us of it.
    """
    return dataclass(slots=True, kw_only=True)(cls)
