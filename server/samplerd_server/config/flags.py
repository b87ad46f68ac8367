"""The command line of ``samplerd``: flags derived from the configuration."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samplerd import __version__
from samplerd_client.command_line.completion import SHELLS, completion_script
from samplerd_client.command_line.parser import LineParser
from samplerd_server.config import SECTIONS
from samplerd_server.config.environment import environment, offered_collector
from samplerd_server.config.handoff import read_handoff
from samplerd_server.config.setting import key_of, variable_of
from samplerd_server.config.sources import all_settings, read_file, resolve
from samplerd_server.config.tracing import parse_endpoint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from samplerd_server.config import ServerConfig

__all__ = ["Command", "build_parser", "parse"]

_ENDPOINT = "trace-endpoint"
_EPILOG = """\
N is a whole number; SIZE a number of bytes, such as 65536 or 64MiB; TIME a number of seconds, such as 0.5, 10ms or 2m.

Every setting can be a flag, an environment variable (--max-batch-rows is SAMPLERD_MAX_BATCH_ROWS) or a key of the file
given with --config; a flag overrides a variable, a variable overrides the file. samplerd --check-config prints the
resulting configuration in the form of that file."""


class Command:
    """The command line, parsed."""

    __slots__ = ("check_only", "config", "offered_by", "warnings")

    def __init__(
        self, config: ServerConfig, *, check_only: bool, warnings: Sequence[str] = (), offered_by: str = ""
    ) -> None:
        self.config = config
        self.check_only = check_only
        """Print the configuration instead of serving."""
        self.warnings = tuple(warnings)
        """One line for each deprecated name in use, and for what cannot be used of what was only offered."""
        self.offered_by = offered_by
        """The variable of OpenTelemetry's that alone turned tracing on; "" = it is off, or was asked for."""


def parse(argv: Sequence[str] | None = None) -> Command:
    """Read flags, environment and file.

    Raises:
        ConfigError: a setting is unknown or not allowed.
        SystemExit: --help, --version, or a flag that argparse refuses.

    """
    parser = build_parser()
    arguments = vars(parser.parse_args(argv))
    if arguments["completion"] is not None:
        sys.stdout.write(completion_script(parser, arguments["completion"]))
        parser.exit()
    if arguments["worker"] is not None:
        return Command(read_handoff(arguments["worker"]), check_only=False)
    variables = environment()
    path = arguments["config"] or variables.get("SAMPLERD_CONFIG", "")
    warnings: list[str] = []
    file = read_file(path) if path else {}
    offered_by, url = ("", "") if _names_collector(arguments, variables, file) else _offer(warnings)
    if url:
        variables = {**variables, variable_of(_ENDPOINT): url}
    config = resolve(arguments, variables, file, path, warn=warnings.append)
    return Command(config, check_only=arguments["check_config"], warnings=warnings, offered_by=offered_by)


def _names_collector(flags: Mapping[str, Any], variables: Mapping[str, str], file: Mapping[str, Any]) -> bool:
    """Whether samplerd itself was told where traces go, or that none are wanted."""
    in_file = key_of(_ENDPOINT) in file.get("tracing", {})
    return flags[_ENDPOINT] is not None or variable_of(_ENDPOINT) in variables or in_file


def _offer(warnings: list[str]) -> tuple[str, str]:
    """Give the variable of OpenTelemetry's that names a collector, and its URL; a bad one costs a warning, no start."""
    name = ""
    try:
        name, url = offered_collector()
        return name, parse_endpoint(url)
    except ValueError as error:
        warnings.append(f"no traces are sent: {name and f'{name}: its value is not allowed: '}{error}")
        return "", ""


def build_parser() -> LineParser:
    """Return the parser of the whole command line."""
    parser = LineParser(
        prog="samplerd",
        usage="samplerd [flags]",
        description="A gRPC server that turns logits into samples.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"samplerd {__version__}")
    parser.add_argument("--config", metavar="FILE", help="TOML file of settings")
    parser.add_argument("--check-config", action="store_true", help="print the resulting configuration and exit")
    parser.add_argument(
        "--completion",
        choices=SHELLS,
        metavar="SHELL",
        help=f"print a script that completes flags and values in {', '.join(SHELLS)}, and exit",
    )
    # A supervisor starts a worker with this flag; then nothing else is read, so it is hidden from users.
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    section_before, group = "", parser.add_argument_group("")
    for section, _, setting, default in all_settings():
        if section != section_before:
            title = f"{section}: {_first_sentence(SECTIONS[section])}"
            group, section_before = parser.add_argument_group(title), section
        shown = " ".join(str(setting.show(item)) for item in default) if setting.is_list else setting.show(default)
        extra: dict[str, Any] = {"metavar": setting.value_name(default)}
        if setting.is_list:
            extra["action"] = "append"
        elif isinstance(default, bool):
            extra |= {"nargs": "?", "const": "true"}
            shown = "true" if default else "false"
        text = f"{setting.help} (default: {'none' if shown == '' else shown})".replace("%", "%%")
        group.add_argument(f"--{setting.flag}", dest=setting.flag, default=None, help=text, **extra)
        for flag in setting.deprecated:
            group.add_argument(f"--{flag}", dest=flag, default=None, help=f"deprecated: use --{setting.flag}", **extra)
    return parser


def _first_sentence(section: type) -> str:
    text = (section.__doc__ or "").partition("\n")[0].removesuffix(".")
    return text if text[:2].isupper() else text[:1].lower() + text[1:]
