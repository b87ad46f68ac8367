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
from samplerd_server.config.setting import key_of, variable_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

__all__ = ["all_settings", "check_keys", "read_file", "render", "resolve", "to_toml"]


def all_settings() -> Iterator[tuple[str, str, Setting, Any]]:
    """Yield (section, name, setting, default) of every setting, in the order of the tree."""
    for section, cls in SECTIONS.items():
        for item in fields(cls):
            yield section, item.name, item.metadata["setting"], item.default


def read_file(path: str) -> dict[str, dict[str, Any]]:
    """Read a TOML file of sections.

    Raises:
        ConfigError: it cannot be read, is not TOML, or holds an unknown section or key.

    """
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--config {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {path}: not TOML: {error}") from error
    return check_keys(content, path)


def check_keys(content: dict[str, Any], path: str) -> dict[str, dict[str, Any]]:
    """Check that all sections and keys of a file are known; returns its content.

    Raises:
        ConfigError: a section or key is unknown.

    """
    known: dict[str, set[str]] = {section: set() for section in SECTIONS}
    deprecated: dict[str, set[str]] = {section: set() for section in SECTIONS}
    for section, _, setting, _ in all_settings():
        known[section].add(setting.key)
        deprecated[section].update(map(key_of, setting.deprecated))
    for section, entries in content.items():
        if section not in known:
            raise ConfigError(f"{path}: unknown section [{section}]{_suggest(section, known)}")
        if not isinstance(entries, dict):
            raise ConfigError(f"{path}: {section} must be a section: [{section}]")
        for name in entries:
            if name not in known[section] | deprecated[section]:
                raise ConfigError(f"{path}: unknown key {name} in [{section}]{_suggest(name, known[section])}")
    return content


def _suggest(word: str, known: Iterable[str]) -> str:
    allowed = sorted(known)
    # Above the default of 0.6, which any two variables reach by their common prefix alone.
    close = difflib.get_close_matches(word, allowed, n=1, cutoff=0.75)
    return f"; did you mean {close[0]}?" if close else f"; allowed: {', '.join(allowed)}"


def _no_warning(_: str) -> None:
    """Drop a warning."""


def resolve(
    flags: Mapping[str, Any],
    variables: Mapping[str, str],
    file: Mapping[str, Mapping[str, Any]],
    path: str = "",
    *,
    warn: Callable[[str], None] = _no_warning,
) -> ServerConfig:
    """Combine the sources: flag > environment > file > default.

    Args:
        flags: value by flag name without dashes; absent or None = not given.
        variables: the environment's SAMPLERD_ variables.
        file: what `read_file` gave.
        path: the file's name, for messages.
        warn: called with one line for each deprecated name in use.

    Raises:
        ConfigError: an unknown variable, a value that is not allowed, or a setting given by its former name and its
            present one in the same source.

    """
    settings = list(all_settings())
    known = {setting.variable for _, _, setting, _ in settings} | {"SAMPLERD_CONFIG"}
    deprecated = {variable_of(flag) for _, _, setting, _ in settings for flag in setting.deprecated}
    for name in variables:
        if name not in known | deprecated:
            raise ConfigError(f"unknown environment variable {name}{_suggest(name, known)}")
    values: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for section, name, setting, _ in settings:
        sources = (
            {f"--{flag}": flags.get(flag) for flag in setting.flags},
            {variable_of(flag): _split(setting, variables.get(variable_of(flag))) for flag in setting.flags},
            {f"{path}: [{section}] {key_of(flag)}": file.get(section, {}).get(key_of(flag)) for flag in setting.flags},
        )
        for source in sources:
            given = {origin: raw for origin, raw in source.items() if raw is not None}
            if not given:
                continue
            present = next(iter(source))
            origin, raw = _only(given, present, warn)
            values[section][name] = _parse(setting, raw, origin)
            break
    return ServerConfig(**{section: cls(**values[section]) for section, cls in SECTIONS.items()})


def _split(setting: Setting, text: str | None) -> str | list[str] | None:
    return text.split(",") if setting.is_list and text is not None else text


def _only(given: Mapping[str, object], present: str, warn: Callable[[str], None]) -> tuple[str, object]:
    """Give the one name under which a source gives a setting, with its value; `present` is its name of today."""
    [(origin, raw), *others] = given.items()
    if others:
        raise ConfigError(f"{origin} and {others[0][0]} are the same setting: give {present} alone")
    if origin != present:
        warn(f"{origin} is deprecated and will be removed in the next release: use {present}")
    return origin, raw


def _parse(setting: Setting, raw: object, origin: str) -> object:
    try:
        if not setting.is_list:
            return setting.parse(raw)
        items = raw if isinstance(raw, (list, tuple)) else [raw]
        if not items and not setting.may_be_empty:
            raise ValueError("expected at least one")  # noqa: TRY301  # handled below, with every other error
        return tuple(setting.parse(item) for item in items)
    except ValueError as error:
        raise ConfigError(f"{origin}: {raw!r} is not allowed: {error}") from error


def render(config: ServerConfig) -> str:
    """Write the configuration as a TOML file that gives the same one, each setting under its help text."""
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
    # TOML has JSON's escapes, and DEL must be escaped as well.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
