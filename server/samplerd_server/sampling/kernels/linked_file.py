"""The file of linked kernels: where it is, what it depends on, and whether it is what was saved.

It is a shared object, followed by a description in JSON, the description's length, a checksum of all before, and a
magic line. Its name and description hold a digest of the sources, the versions and the processor. Rule 1: no state of
the disk stops a start; a file that is absent, unreadable or damaged, or that lacks a kernel, is not used. Rule 2: which
kernels there are is read in the sources, since a process that uses a file imports none of them before.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import re
import shutil
import struct
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samplerd_server.config.environment import compiler_is_configured, kernel_folders

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["can_link", "has_room", "kernel_names", "paths", "read", "report", "write"]

_LOG = logging.getLogger("samplerd.kernels")
_MAGIC = b"samplerd linked kernels 1\n"
_END = struct.Struct(f"<Q32s{len(_MAGIC)}s")
_KEPT = 4
"""Versions that stay in a folder: going back and forth between branches links nothing."""
_ROOM_BYTES = 64 << 20
"""Free bytes that a folder must have to be written to, as code_cache.py has it."""
_ROOT = Path(__file__).parents[2]
_SOURCES = ("core/*.py", "sampling/**/*.py", "transport/codec/scan.py", "transport/codec/varints.py")
"""What a kernel may be made of."""
_ENTRY_POINT = re.compile(rb"^@(?:short_)?kernel\ndef (\w+)\(", re.MULTILINE)
"""How each kernel begins, where it is defined."""


def can_link() -> bool:
    """Tell whether the linker knows this system, and the entries this Python."""
    return sys.platform == "linux" and platform.machine() == "x86_64" and not sys.abiflags


def paths() -> Iterator[Path]:
    """Yield where to look, and where to save; nothing where kernels are not linked."""
    key = _key()
    if key is not None:
        for folder in kernel_folders(Path(__file__).parent / "__pycache__"):
            yield folder / f"linked-{key[:16]}.{sys.implementation.cache_tag}.so"


def kernel_names() -> frozenset[str]:
    """Give the module and name of every kernel that a file must have."""
    return _of_sources()[1]


def read(path: Path) -> dict[str, Any] | None:
    """Read the description in a file; None if the file is absent, not what was saved, or lacks a kernel."""
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        report(path, error.strerror or "cannot be read")
        return None
    if len(content) > _END.size:
        length, checksum, magic = _END.unpack(content[-_END.size :])
        body = content[: -_END.size]
        if magic == _MAGIC and hashlib.sha256(body).digest() == checksum:
            about: dict[str, Any] = json.loads(body[len(body) - length :])
            if about["key"] == _key():
                return about if _is_whole(path, about) else None
    report(path, "it is not what was saved")
    return None


def _is_whole(path: Path, about: dict[str, Any]) -> bool:
    missing = sorted(kernel_names() - {own["name"] for own in about["kernels"]})
    if missing:
        report(path, f"it lacks {', '.join(missing)}")
    return not missing


def has_room(folder: Path) -> bool:
    """Tell whether a folder, which is made if it is absent, has room.

    Raises:
        OSError: it cannot be made.

    """
    folder.mkdir(parents=True, exist_ok=True)
    return shutil.disk_usage(folder).free >= _ROOM_BYTES


def write(path: Path, image: bytes, about: dict[str, Any]) -> None:
    """Write a file whole, or not at all, and forget the oldest versions.

    Raises:
        OSError: the folder cannot be written, or is full.

    """
    text = json.dumps(about | {"key": _key()}).encode()
    content = image + text
    content += _END.pack(len(text), hashlib.sha256(content).digest(), _MAGIC)
    spare = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        spare.write_bytes(content)
        spare.replace(path)
    finally:
        spare.unlink(missing_ok=True)
    with suppress(OSError):  # another process may be removing the same files
        files = path.parent.glob(f"linked-*.{sys.implementation.cache_tag}.so")
        for old in sorted(files, key=lambda own: own.stat().st_mtime, reverse=True)[_KEPT:]:
            old.unlink(missing_ok=True)


def report(path: Path, cause: str) -> None:
    """Say that a file is not used."""
    _LOG.warning("linked kernels are not used: %s: %s", path, cause)


@cache
def _key() -> str | None:
    """Compute what the file depends on; None where kernels cannot be linked, or are compiled in a way of their own."""
    sources, names = _of_sources()
    if not can_link() or compiler_is_configured() or not names:
        return None
    try:
        versions = [version(name) for name in ("numba", "llvmlite", "numpy")]
    except PackageNotFoundError:
        return None
    digest = hashlib.sha256(repr((sys.version_info[:2], versions, _about_processor())).encode())
    digest.update(sources)
    return digest.hexdigest()


@cache
def _of_sources() -> tuple[bytes, frozenset[str]]:
    """Read the sources; returns a digest of each by its name, and the names of the kernels that they define."""
    digests, names = b"", set()
    for path in sorted({path for pattern in _SOURCES for path in _ROOT.glob(pattern)}):
        content, own = path.read_bytes(), path.relative_to(_ROOT)
        digests += f"{own}\0".encode() + hashlib.sha256(content).digest()
        module = ".".join((_ROOT.name, *own.with_suffix("").parts))
        names |= {f"{module}.{name.decode()}" for name in _ENTRY_POINT.findall(content)}
    return digests, frozenset(names)


def _about_processor() -> list[str]:
    """Give what the system says of the processor; the rest is asked of the processor itself, once a file is found."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return []
    names = ("vendor_id", "cpu family", "model", "stepping", "flags")
    lines = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return [value.strip() for name, _, value in lines if name.strip() in names]
