"""The description of one setting: its names, its help text, and how its value is parsed and shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ConfigError", "Setting", "key_of", "setting", "variable_of"]

_T = TypeVar("_T")


class ConfigError(Exception):
    """Expected: a setting is unknown or its value is not allowed."""


def key_of(flag: str) -> str:
    """Spell a flag's name as a key of the file."""
    return flag.replace("-", "_")


def variable_of(flag: str) -> str:
    """Spell a flag's name as an environment variable."""
    return "SAMPLERD_" + key_of(flag).upper()


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The description of a setting, beside its type and default."""

    flag: str
    """The flag without its dashes."""
    help: str
    """One plain sentence: what it does, with unit and range."""
    parse: Callable[[Any], Any]
    """From text, or a value of the file, to the value; raises a ValueError that says what is allowed."""
    show: Callable[[Any], object] = lambda value: value
    """From the value to its form in the file."""
    is_list: bool = False
    """The flag may be repeated; the variable is split at commas."""
    may_be_empty: bool = False
    """Of a list: whether the empty list is allowed."""
    deprecated: tuple[str, ...] = ()
    """Former names of the flag. Each is accepted for one release, as flag, variable and key, with a warning that names
    the new one."""

    value: str = ""
    """What stands for a value in the help; empty = what `value_name` derives."""

    def value_name(self, default: object) -> str:
        """Give what stands for a value in the help: N, SIZE, TIME, the allowed words, or what `value` says."""
        if self.value:
            return self.value
        if isinstance(default, bool):
            return "true|false"
        return "N" if isinstance(default, int) else "VALUE"

    @property
    def key(self) -> str:
        """Name in the file."""
        return key_of(self.flag)

    @property
    def variable(self) -> str:
        """Name of the environment variable."""
        return variable_of(self.flag)

    @property
    def flags(self) -> tuple[str, ...]:
        """The flag, then its former names."""
        return (self.flag, *self.deprecated)


def setting(default: _T, meaning: Setting) -> _T:
    """Make the field of a section from a default and the description of the setting."""
    value: _T = field(default=default, metadata={"setting": meaning})
    return value
