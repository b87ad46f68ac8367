"""The Go module as a module proxy serves it: what a tag publishes, for who has no access to the repository.

The layout is that of https://go.dev/ref/mod#goproxy-protocol: `GOPROXY=file:///path/to/dist/go` finds the module there.
"""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["write_module"]

_NO_TIME = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can hold: the archive depends on its files alone."""


def write_module(sources: Path, target: Path, *, module: str, version: str, time: str) -> None:
    """Write a version of a module.

    Args:
        sources: Folder with the module's files and no others.
        target: Folder of the proxy; it is made.
        module: Path of the module, without capital letters, which a proxy would escape.
        version: As in v1.2.3.
        time: When it was made, in RFC 3339.

    """
    folder = target / module / "@v"
    folder.mkdir(parents=True)
    (folder / "list").write_text(f"{version}\n", encoding="utf-8")
    (folder / f"{version}.info").write_text(json.dumps({"Version": version, "Time": time}) + "\n", encoding="utf-8")
    (folder / f"{version}.mod").write_bytes((sources / "go.mod").read_bytes())
    with zipfile.ZipFile(folder / f"{version}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(own for own in sources.rglob("*") if own.is_file()):
            entry = zipfile.ZipInfo(f"{module}@{version}/{path.relative_to(sources).as_posix()}", _NO_TIME)
            archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
