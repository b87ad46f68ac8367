"""What is known of one setting: its names, its help, and how its value is read and shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ConfigError", "Setting", "setting"]

_T = TypeVar("_T")


class ConfigError(Exception):
    """Expected: a setting is unknown or its value is not allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is known of a setting beside its name, type and default."""

    flag: str
    """The flag without its dashes."""
    help: str
    """What it does, with unit and range."""
    parse: Callable[[Any], Any]
    """From text, or from a value of the file, to the value; raises ValueError saying what is allowed."""
    show: Callable[[Any], object] = lambda value: value
    """From the value to what the file would hold."""
    is_list: bool = False
    """The flag may be repeated; the variable is split at commas."""
    may_be_empty: bool = False
    """Of a list: whether it may name nothing."""

    @property
    def key(self) -> str:
        """Name in the file."""
        return self.flag.replace("-", "_")

    @property
    def variable(self) -> str:
        """Name of the environment variable."""
        return "SAMPLERD_" + self.key.upper()


def setting(default: _T, meaning: Setting) -> _T:
    """Make the field of a section: its default, and what is known of it."""
    value: _T = field(default=default, metadata={"setting": meaning})
    return value
