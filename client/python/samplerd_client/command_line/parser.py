"""A parser of command lines whose errors are one line, with the nearest name.

``argparse`` prints its whole usage before the one line that matters, and names the Python function that a value did
not please.
"""

from __future__ import annotations

import argparse
import difflib
import re
import sys
import textwrap
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["HelpFormatter", "LineParser", "commands_of", "leaves_of", "nearest"]

_NUMBER = re.compile(r"-(\d|\.\d|inf\b)")
"""A negative number, or a list that begins with one: a value, not a flag."""
_CLOSE = 0.7
"""How alike two names must be, of 1: flags that begin alike reach argparse's own 0.6 by that."""
_WANTED = {int: "a whole number", float: "a number"}
_PLAIN = (
    (r"the following arguments are required: (.*)", "{0} is missing"),
    (r"one of the arguments (.*) is required", "give one of {listed}"),
    (r"argument (.*): not allowed with argument (.*)", "{0} and {1} exclude each other"),
    (r"argument (.*): expected (one|at least one) argument", "{0}: a value is missing"),
    (r"argument (.*): ignored explicit argument (.*)", "{0} takes no value, and {1} was given"),
    (r"unrecognized arguments: (.*)", "unexpected: {0}"),
    (r"argument (.*)", "{0}"),
)
"""Texts of argparse, and what is said instead; the first that fits counts."""


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """As argparse does, with an epilog whose lines are kept; a description of one line is wrapped."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return super()._fill_text(text, width, indent)
        return textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent)


class LineParser(argparse.ArgumentParser):
    """Reads a command line. Flags can not be abbreviated: a flag that is added later must not change a script."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, "formatter_class": HelpFormatter, **options})
        self.relatives: tuple[LineParser, ...] = ()
        """All parsers of the program that take flags, for errors that say where a flag belongs."""

    def parse_known_args(  # type: ignore[override]  # argparse has overloads for classes of namespaces
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Check the names of flags before argparse finds that something else is missing."""
        given = list(sys.argv[1:] if args is None else args)
        for word in given:
            if word == "--" or (commands_of(self) and not word.startswith("-")):
                break
            self._check_flag(word)
        parsed, rest = super().parse_known_args(given, namespace)
        assert parsed is not None, "argparse made no namespace. This is a bug."
        if rest and not commands_of(self):
            self.error(f"unexpected: {' '.join(rest)}; {self.prog} --help lists what it takes")
        return parsed, rest

    def error(self, message: str) -> NoReturn:
        """Write one line and exit with status 2."""
        for pattern, text in _PLAIN:
            if found := re.fullmatch(pattern, message, re.DOTALL):
                message = text.format(*found.groups(), listed=", ".join(found[1].split()))
                break
        if commands_of(self) and message.endswith(" is missing"):
            message = f"give a command: one of {', '.join(commands_of(self))}"
        self.exit(2, f"{self.prog}: {message}\n")

    def _check_flag(self, word: str) -> None:
        known = self._option_string_actions
        name = word.partition("=")[0]
        is_flag = len(word) > 1 and word.startswith("-") and " " not in word and not _NUMBER.match(word)
        if not is_flag or name in known or (not name.startswith("--") and word[:2] in known):
            return
        owners = [own.prog.partition(" ")[2] for own in self.relatives if name in own._option_string_actions]  # noqa: SLF001  # a parser of this class
        if owners and commands_of(self):
            self.error(f"{name} goes after the command, as in {self.prog} {owners[0]} {name}")
        if owners:
            self.error(f"{name} is a flag of {' and '.join(owners)}, not of {self.prog.partition(' ')[2]}")
        long = [flag for flag in known if flag.startswith("--")]
        hint = nearest(f"--{name.lstrip('-')}", long)
        self.error(f"unknown flag {name}{hint}" if hint else f"unknown flag {name}; {self.prog} --help lists all")

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        try:
            return super()._get_value(action, arg_string)
        except argparse.ArgumentError:
            # An ArgumentTypeError has a text of its own.
            if action.type not in _WANTED:
                raise
            raise argparse.ArgumentError(action, f"{arg_string!r} is not {_WANTED[action.type]}") from None

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        allowed = [str(choice) for choice in action.choices]
        hint = nearest(str(value), allowed)
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001  # argparse has no public name for it
            listed = f"; there are {', '.join(allowed)}"
            self.error(f"{value!r} is no command{hint or listed}")
        raise argparse.ArgumentError(action, f"{value!r} is not one of {', '.join(allowed)}{hint}")


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a question for the nearest of the known names, or "" where none is near."""
    close = difflib.get_close_matches(word, sorted(known), n=1, cutoff=_CLOSE)
    return f": did you mean {close[0]}?" if close else ""


def commands_of(parser: argparse.ArgumentParser) -> dict[str, LineParser]:
    """Return the commands below a parser; none where it takes none."""
    for action in parser._actions:  # noqa: SLF001  # argparse has no public way to read a parser
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001  # as above
            return dict(action.choices)
    return {}


def leaves_of(parser: LineParser, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], LineParser]]:
    """Yield the commands that take no further command, each with its path."""
    below = commands_of(parser)
    if not below:
        yield path, parser
    for name, own in below.items():
        yield from leaves_of(own, (*path, name))
