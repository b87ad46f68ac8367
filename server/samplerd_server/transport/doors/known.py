"""Parameters that many requests share: sent once, then named by a number.

A decoder gives requests with the same small parameters the same object, so that two are known to be the same by their
identity. Rule 1: `KnownHere` keeps what it has named alive, so that an identity stays its own. Rule 2: it forgets all
at once, when it has named `_MOST`; numbers are never used again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from samplerd_server.transport.doors.kinds import DEFINE

if TYPE_CHECKING:
    from samplerd_server.core.params import SamplingParams

__all__ = ["KnownHere", "KnownThere"]

_MOST = 1024


class KnownHere:
    """The numbers, in a door."""

    def __init__(self) -> None:
        self._numbers: dict[int, tuple[int, tuple[SamplingParams, ...]]] = {}
        self._next = 0
        self._definitions: list[tuple[Any, ...]] = []

    def name_params(self, params: tuple[SamplingParams, ...]) -> int:
        """Give the number of parameters."""
        found = self._numbers.get(id(params))
        if found is not None:
            return found[0]
        is_full = len(self._numbers) >= _MOST
        if is_full:
            self._numbers.clear()
        number = self._next
        self._next += 1
        self._numbers[id(params)] = number, params
        self._definitions.append((DEFINE, number, params, is_full))
        return number

    def take_definitions(self) -> list[tuple[Any, ...]]:
        """Give the messages that define what was named since the last call."""
        definitions, self._definitions = self._definitions, []
        return definitions


class KnownThere:
    """What the numbers of a door name, in the engine."""

    def __init__(self) -> None:
        self._params: dict[int, tuple[SamplingParams, ...]] = {}

    def define(self, number: int, params: tuple[SamplingParams, ...], *, forgets: bool) -> None:
        """Learn a number; `forgets`: the older ones are not named any more."""
        if forgets:
            self._params.clear()
        self._params[number] = params

    def params(self, number: int) -> tuple[SamplingParams, ...]:
        """Give what a number names."""
        return self._params[number]
