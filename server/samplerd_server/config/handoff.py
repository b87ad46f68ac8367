"""The handoff: the file by which a supervisor gives its configuration to the process that it starts.

The process gets no flags and no environment variables of samplerd: it serves the settings that the supervisor has
resolved. The file is TOML as `sources.render` writes it, with a section ``[worker]`` that a user's file must not have.
"""

from __future__ import annotations

import dataclasses
import tomllib
from typing import TYPE_CHECKING

from samplerd_server.config import WorkerConfig
from samplerd_server.config.sources import check_keys, render, resolve, to_toml

if TYPE_CHECKING:
    from pathlib import Path

    from samplerd_server.config import ServerConfig

__all__ = ["read_handoff", "write_handoff"]


def write_handoff(config: ServerConfig, path: Path) -> None:
    """Write the file; only its owner can read it."""
    text = render(config)
    if config.worker is not None:
        entries = dataclasses.asdict(config.worker).items()
        text += "\n[worker]\n" + "".join(f"{name} = {to_toml(value)}\n" for name, value in entries)
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


def read_handoff(path: Path) -> ServerConfig:
    """Read what `write_handoff` wrote.

    Raises:
        ConfigError: it holds a setting that is unknown or not allowed.
        OSError: it cannot be read.

    """
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    worker = content.pop("worker", None)
    config = resolve({}, {}, check_keys(content, str(path)), str(path))
    return config if worker is None else dataclasses.replace(config, worker=WorkerConfig(**worker))
