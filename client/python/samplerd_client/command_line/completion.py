"""Shell completion, generated from a parser: flags, commands, choices and files, for bash, zsh and fish.

A value is completed from its choices, from the words of a name such as ``text|json``, or as a file if its name is FILE;
an argument that is no flag, from its choices, or as a file if its name ends with _FILE.
The scripts are complete in themselves: the shell need not start Python for each Tab. Rule 1: no flag is known here by
its name.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING

from samplerd_client.command_line.parser import commands_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from samplerd_client.command_line.parser import LineParser

__all__ = ["SHELLS", "completion_script"]

_FILE = "FILE"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Flag:
    """A flag of a command."""

    names: tuple[str, ...]
    help: str
    value: str
    """Name of its value; empty = it takes none."""
    choices: tuple[str, ...]
    repeats: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Command:
    """A command, or the program itself."""

    path: tuple[str, ...]
    below: dict[str, str]
    """Commands after it, with their help."""
    flags: tuple[_Flag, ...]
    words: tuple[str, ...]
    """Choices of its arguments that are no flags."""
    takes_files: bool
    """One of these arguments is a file."""


def completion_script(parser: LineParser, shell: str) -> str:
    """Return the script that makes a shell complete the program's command line.

    Args:
        parser: of the program.
        shell: one of `SHELLS`.

    """
    return _SCRIPTS[shell](parser.prog, list(_commands(parser, ())))


def _commands(parser: LineParser, path: tuple[str, ...]) -> Iterator[_Command]:
    below, helps = commands_of(parser), {}
    flags: list[_Flag] = []
    words: list[str] = []
    takes_files = False
    for action in parser._actions:  # noqa: SLF001  # argparse has no public way to read a parser
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001  # as above
            helps = {own.dest: own.help or "" for own in action._choices_actions}  # noqa: SLF001  # as above
        elif not action.option_strings:
            words += [str(choice) for choice in action.choices or ()]
            takes_files |= str(action.metavar).endswith(f"_{_FILE}")
        elif action.help != argparse.SUPPRESS:
            value = "" if action.nargs == 0 else str(action.metavar or action.dest)
            listed = tuple(value.split("|")) if "|" in value else ()
            flags.append(
                _Flag(
                    names=tuple(action.option_strings),
                    help=" ".join((action.help or "").replace("%%", "%").split()).partition(";")[0],
                    value=value,
                    choices=tuple(str(choice) for choice in action.choices) if action.choices else listed,
                    repeats=isinstance(action, argparse._AppendAction),  # noqa: SLF001  # as above
                )
            )
    yield _Command(path=path, below=helps, flags=tuple(flags), words=tuple(words), takes_files=takes_files)
    for name, own in below.items():
        yield from _commands(own, (*path, name))


def _bash(program: str, commands: list[_Command]) -> str:
    steps, values, words = [], [], []
    for own in commands:
        at = " ".join(own.path)
        steps += [f"            {_q(f'{at}:{name}')}) path={_q(' '.join((*own.path, name)))} ;;" for name in own.below]
        for flag in own.flags:
            if not flag.value:
                continue
            keys = "|".join(_q(f"{at}:{name}") for name in flag.names)
            if flag.choices:
                action = f'COMPREPLY=($(compgen -W {_q(" ".join(flag.choices))} -- "$cur"))'
            elif flag.value == _FILE:
                action = 'compopt -o filenames; COMPREPLY=($(compgen -f -- "$cur"))'
            else:
                action = ":"
            values.append(f"        {keys}) {action}; return ;;")
        names = [*own.below, *own.words, *(name for flag in own.flags for name in flag.names)]
        files = " files=1" if own.takes_files else ""
        words.append(f"        {_q(at)}) words={_q(' '.join(names))}{files} ;;")
    return _BASH.format(
        program=program, steps="\n".join(steps) or "            *) ;;", values="\n".join(values), words="\n".join(words)
    )


_BASH = """\
# bash completion of {program}. Load it with: source <({program} ...), or keep it in the folder of completions.
_{program}() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} flag=${{COMP_WORDS[COMP_CWORD - 1]}} path="" words="" files="" i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "$path:${{COMP_WORDS[i]}}" in
{steps}
        esac
    done
    # "--flag=value" comes as three words.
    if [[ $cur == "=" ]]; then
        cur=""
    elif [[ $flag == "=" ]]; then
        flag=${{COMP_WORDS[COMP_CWORD - 2]}}
    fi
    COMPREPLY=()
    case "$path:$flag" in
{values}
    esac
    case "$path" in
{words}
    esac
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
    if [[ -n $files && $cur != -* ]]; then
        compopt -o filenames
        COMPREPLY=($(compgen -f -- "$cur"))
    fi
}}
complete -F _{program} {program}
"""


def _zsh(program: str, commands: list[_Command]) -> str:
    steps, cases = [], []
    for own in commands:
        at = " ".join(own.path)
        steps += [
            f"        {_q(f'{at}:{name}')}) command_path={_q(' '.join((*own.path, name)))}; first=$i ;;"
            for name in own.below
        ]
        specs = [_q(spec) for flag in own.flags for spec in _zsh_specs(flag)]
        if own.below:
            listed = " ".join(f'{name}\\:"{_zsh_text(text)}"' for name, text in own.below.items())
            specs.append(_q(f"1:command:(({listed}))"))
        elif own.words:
            specs.append(_q(f"*:argument:({' '.join(own.words)})"))
        elif own.takes_files:
            specs.append(_q("*:file:_files"))
        lines = " \\\n            ".join(specs)
        cases.append(f"    ({_q(at)})\n        _arguments \\\n            {lines} ;;")
    return _ZSH.format(program=program, steps="\n".join(steps) or "        *) ;;", cases="\n".join(cases))


def _zsh_specs(flag: _Flag) -> Iterator[str]:
    for name in flag.names:
        text = f"[{_zsh_text(flag.help)}]"
        often = "*" if flag.repeats else ""
        if not flag.value:
            yield f"{often}{name}{text}"
            continue
        values = f"({' '.join(flag.choices)})" if flag.choices else "_files" if flag.value == _FILE else " "
        joined = "=" if name.startswith("--") else "+"
        yield f"{often}{name}{joined}{text}:{_zsh_text(flag.value)}:{values}"


def _zsh_text(text: str) -> str:
    for mark in "\\[]:":
        text = text.replace(mark, f"\\{mark}")
    return text.replace('"', "").replace("`", "")


_ZSH = """\
#compdef {program}
# zsh completion of {program}. Keep it as _{program} in a folder of $fpath.
_{program}() {{
    local command_path="" first=1 i
    for ((i = 2; i < CURRENT; i++)); do
        case "$command_path:${{words[i]}}" in
{steps}
        esac
    done
    words=("${{(@)words[first,-1]}}")
    (( CURRENT -= first - 1 ))
    case "$command_path" in
{cases}
    esac
}}
if [[ $funcstack[1] == _{program} ]]; then
    _{program} "$@"
else
    compdef _{program} {program}
fi
"""


def _fish(program: str, commands: list[_Command]) -> str:
    lines = [
        f"# fish completion of {program}. Keep it as {program}.fish in ~/.config/fish/completions.",
        f"complete -c {program} -f",
    ]
    for own in commands:
        seen = [f"__fish_seen_subcommand_from {name}" for name in own.path]
        if own.below:
            seen.append(f"not __fish_seen_subcommand_from {' '.join(own.below)}")
        where = f" -n {_fish_q('; and '.join(seen))}" if seen else ""
        for name, text in own.below.items():
            lines.append(f"complete -c {program}{where} -a {name} -d {_fish_q(text)}")
        if own.words:
            lines.append(f"complete -c {program}{where} -a {_fish_q(' '.join(own.words))}")
        if own.takes_files:
            lines.append(f"complete -c {program}{where} -F")
        for flag in own.flags:
            names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in flag.names)
            value = "" if not flag.value else " -r -F" if flag.value == _FILE else " -x"
            choices = f" -a {_fish_q(' '.join(flag.choices))}" if flag.choices else ""
            lines.append(f"complete -c {program}{where} {names}{value}{choices} -d {_fish_q(flag.help)}")
    return "\n".join(lines) + "\n"


def _q(text: str) -> str:
    """Quote for bash and zsh."""
    return "'" + text.replace("'", "'\\''") + "'"


def _fish_q(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


_SCRIPTS: dict[str, Callable[[str, list[_Command]], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
SHELLS = tuple(_SCRIPTS)
"""The shells that a script can be made for."""
