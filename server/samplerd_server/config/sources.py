"""From flags, environment and file to a `ServerConfig`, and back to the file that would give it.

The arrow: ``flags, variables, file -> resolve -> ServerConfig -> render -> TOML``.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samplerd_server.config import SECTIONS, ConfigError, ServerConfig, Setting

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["all_settings", "check_keys", "read_file", "render", "resolve", "to_toml"]


def all_settings() -> Iterator[tuple[str, str, Setting, Any]]:
    """Yield (section, name, setting, default) of every setting, in the order of the tree."""
    for section, cls in SECTIONS.items():
        for item in fields(cls):
            yield section, item.name, item.metadata["setting"], item.default


def read_file(path: str) -> dict[str, dict[str, Any]]:
    """Read a TOML file of sections.

    Raises:
        ConfigError: it cannot be read, is not TOML, or holds a section or key that is not known.

    """
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--config {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {path}: not TOML: {error}") from error
    return check_keys(content, path)


def check_keys(content: dict[str, Any], path: str) -> dict[str, dict[str, Any]]:
    """Give the sections of a file back if all of them and all their keys are known.

    Raises:
        ConfigError: one is not.

    """
    known: dict[str, set[str]] = {section: set() for section in SECTIONS}
    for section, _, setting, _ in all_settings():
        known[section].add(setting.key)
    for section, entries in content.items():
        if section not in known:
            raise ConfigError(f"{path}: unknown section [{section}]{_suggest(section, known)}")
        if not isinstance(entries, dict):
            raise ConfigError(f"{path}: {section} must be a section: [{section}]")
        for name in entries:
            if name not in known[section]:
                raise ConfigError(f"{path}: unknown key {name} in [{section}]{_suggest(name, known[section])}")
    return content


def _suggest(word: str, known: Iterable[str]) -> str:
    allowed = sorted(known)
    # Above the default of 0.6, which the common prefix of two variables alone reaches.
    close = difflib.get_close_matches(word, allowed, n=1, cutoff=0.75)
    return f"; did you mean {close[0]}?" if close else f"; allowed: {', '.join(allowed)}"


def resolve(
    flags: Mapping[str, Any], variables: Mapping[str, str], file: Mapping[str, Mapping[str, Any]], path: str = ""
) -> ServerConfig:
    """Put the sources together: flag > environment > file > default.

    Args:
        flags: value by flag name without dashes; absent or None = not given.
        variables: the environment's SAMPLERD_ variables.
        file: what `read_file` gave.
        path: the file's name, for messages.

    Raises:
        ConfigError: an unknown variable or a value that is not allowed.

    """
    known = {setting.variable for _, _, setting, _ in all_settings()} | {"SAMPLERD_CONFIG"}
    for name in variables:
        if name not in known:
            raise ConfigError(f"unknown environment variable {name}{_suggest(name, known)}")
    values: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for section, name, setting, _ in all_settings():
        if flags.get(setting.flag) is not None:
            values[section][name] = _parse(setting, flags[setting.flag], f"--{setting.flag}")
        elif setting.variable in variables:
            raw = variables[setting.variable]
            values[section][name] = _parse(setting, raw.split(",") if setting.is_list else raw, setting.variable)
        elif setting.key in file.get(section, {}):
            values[section][name] = _parse(setting, file[section][setting.key], f"{path}: [{section}] {setting.key}")
    return ServerConfig(**{section: cls(**values[section]) for section, cls in SECTIONS.items()})


def _parse(setting: Setting, raw: object, origin: str) -> object:
    try:
        if not setting.is_list:
            return setting.parse(raw)
        items = raw if isinstance(raw, (list, tuple)) else [raw]
        if not items and not setting.may_be_empty:
            raise ValueError("expected at least one")  # noqa: TRY301  # the one place that words the error
        return tuple(setting.parse(item) for item in items)
    except ValueError as error:
        raise ConfigError(f"{origin}: {raw!r} is not allowed: {error}") from error


def render(config: ServerConfig) -> str:
    """Write the configuration as the TOML file that would give it, each setting with its meaning."""
    lines: list[str] = []
    section_before = ""
    for section, name, setting, _ in all_settings():
        if section != section_before:
            lines += ["", f"[{section}]"] if lines else [f"[{section}]"]
            section_before = section
        value = getattr(getattr(config, section), name)
        shown = [setting.show(item) for item in value] if setting.is_list else setting.show(value)
        lines.append(f"# {setting.help}")
        lines.append(f"{setting.key} = {to_toml(shown)}")
    return "\n".join(lines) + "\n"


def to_toml(value: object) -> str:
    """Write one value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, list):
        return "[" + ", ".join(to_toml(item) for item in value) + "]"
    # JSON's escapes are TOML's, but for DEL, which TOML wants escaped as well.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
