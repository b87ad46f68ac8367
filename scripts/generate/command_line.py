"""docs/command_line.md, from the argparse parsers of samplerd, samplerctl and samplerd-ray themselves."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from samplerd_client.command_line.parser import commands_of, leaves_of
from samplerd_client.samplerctl.arguments import build_parser
from samplerd_client.samplerctl.environment import DEFAULT_SERVER
from samplerd_ray.command_line import build_parser as build_ray_parser
from samplerd_server.config.flags import build_parser as build_server_parser

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from samplerd_client.command_line.parser import LineParser

__all__ = ["page"]

_HEAD = """\
# Command line

`samplerd` is the server; `samplerctl` is a client for a terminal: it samples, inspects, measures and audits a server;
`samplerd-ray` runs servers on a Ray cluster ([ray.md](ray.md)).
Flags cannot be abbreviated. A wrong flag is answered by one line that names the nearest one.

This page is generated from the parsers of these programs by `make generate`; `--help` shows the same."""
_SHARED = """\
Several commands of samplerctl take these; each command above names the groups that it takes."""

_OWN = {"positional arguments": "Arguments", "options": ""}
"""What argparse calls the groups that every parser has, and what is written above them."""

_Group = tuple[str, tuple[tuple[str, str], ...]]
"""The title of a group of flags, and each flag with its meaning."""


def page() -> str:
    """Give the page as text."""
    server, client = build_server_parser(), build_parser()
    client_groups = {" ".join(path): list(_groups(parser)) for path, parser in leaves_of(client)}
    shared = _shared(client_groups.values())
    parts = [_HEAD, "\n## samplerd\n", *_usage(server)]
    parts += [line for group in _groups(server) for line in _table(group)]
    parts += [*_epilog(server), "\n## samplerctl\n", *_usage(client), *_commands(client)]
    for path, parser in leaves_of(client):
        name = " ".join(path)
        parts += [f"\n### samplerctl {name}\n", *_usage(parser)]
        for group in client_groups[name]:
            parts += [f"\nAlso: [{group[0]}](#{_anchor(group[0])})."] if group in shared else _table(group)
    parts += ["\n## Groups of flags\n", _SHARED]
    for title, rows in shared:
        parts += [f"\n### {title[0].upper()}{title[1:]}\n", *_rows(rows)]
    parts += _epilog(client)
    ray = build_ray_parser()
    parts += ["\n## samplerd-ray\n", *_usage(ray)]
    for path, parser in leaves_of(ray):
        parts += [f"\n### samplerd-ray {' '.join(path)}\n", *_usage(parser)]
        parts += [line for group in _groups(parser) for line in _table(group)]
    parts += _epilog(ray)
    return "\n".join(parts) + "\n"


def _shared(groups_of_commands: Iterable[list[_Group]]) -> list[_Group]:
    """Return the groups that more than one command takes, in the order in which they first occur."""
    groups = [group for groups in groups_of_commands for group in groups]
    return [group for group in dict.fromkeys(groups) if groups.count(group) > 1 and group[0] not in _OWN]


def _groups(parser: LineParser) -> Iterator[_Group]:
    for group in parser._action_groups:  # noqa: SLF001  # argparse has no public way to read a parser
        actions = group._group_actions  # noqa: SLF001  # as above
        shown = [action for action in actions if action.help is not argparse.SUPPRESS]
        rows = tuple(
            (_names(action), _help(action))
            for action in shown
            if not isinstance(action, (argparse._HelpAction, argparse._SubParsersAction))  # noqa: SLF001  # as above
        )
        if rows:
            yield group.title or "options", rows


def _names(action: argparse.Action) -> str:
    """Write a flag with its value, or an argument without a name."""
    choices = "|".join(map(str, action.choices)) if action.choices else ""
    value = action.metavar if isinstance(action.metavar, str) else choices
    if not action.option_strings:
        return f"`{value or action.dest}`"
    suffix = "" if action.nargs == 0 else f" [{value}]" if action.nargs == "?" else f" {value}"
    return ", ".join(f"`{flag}`" for flag in action.option_strings[:-1]) + (
        (", " if len(action.option_strings) > 1 else "") + f"`{action.option_strings[-1]}{suffix}`"
    )


def _help(action: argparse.Action) -> str:
    """Give the help text as --help shows it where no variable of the environment is set."""
    default = DEFAULT_SERVER if "--server" in action.option_strings else action.default
    text = (action.help or "") % {"default": default}
    # A list of values stands in a value's place when it has no name of its own; then it is not said twice.
    has_list = action.choices and action.metavar is not None and "one of" not in text and "script" not in text
    listed = f" One of {', '.join(f'`{choice}`' for choice in action.choices or ())}." if has_list else ""
    return f"{text}{listed}"


def _table(group: _Group) -> Iterator[str]:
    title, rows = group
    if shown := _OWN.get(title, title):
        yield f"\n**{shown[0].upper()}{shown[1:]}**"
    yield ""
    yield from _rows(rows)


def _rows(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    yield "| | meaning |"
    yield "|---|---|"
    for cells in rows:
        yield "| " + " | ".join(cell.replace("\n", " ").replace("|", "\\|") for cell in cells) + " |"


def _usage(parser: LineParser) -> Iterator[str]:
    if parser.description:
        yield f"{parser.description}\n"
    arguments = [_names(action).strip("`") for action in parser._get_positional_actions()]  # noqa: SLF001  # as above
    yield f"```text\n{parser.usage or ' '.join([parser.prog, *arguments, '[flags]'])}\n```"


def _commands(parser: LineParser) -> Iterator[str]:
    """List the commands with what each is for, as the parser's own help does."""
    yield "\n| command | |\n|---|---|"
    for action in parser._actions:  # noqa: SLF001  # argparse has no public way to read a parser
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001  # as above
            for choice in action._choices_actions:  # noqa: SLF001  # as above
                below = commands_of(commands_of(parser)[choice.dest])
                first = f"{choice.dest} {next(iter(below))}" if below else choice.dest
                yield f"| [`{choice.dest}`](#samplerctl-{_anchor(first)}) | {choice.help} |"


def _epilog(parser: LineParser) -> Iterator[str]:
    if parser.epilog:
        yield f"\n```text\n{parser.epilog.strip()}\n```"


def _anchor(title: str) -> str:
    """Return the anchor that a heading gets."""
    kept = "".join(letter for letter in title.lower() if letter.isalnum() or letter in " -_")
    return kept.replace(" ", "-")
