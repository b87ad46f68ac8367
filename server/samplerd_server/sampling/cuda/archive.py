"""The archive of compiled kernels: one file with machine code for each architecture, and assembly for later cards.

Written by `write_archive.py`, read here. Rule 1: the file's name has a digest of the sources, so that kernels of
another version are never launched. Rule 2: machine code of an architecture runs on it alone (those from 90 on are made
so); any other card above the lowest gets the assembly of the lowest, which the driver compiles when it loads it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile, ZipFile

from samplerd_server.config.environment import kernel_folders
from samplerd_server.core.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ABOUT", "COMMAND", "FORMAT", "CompiledKernel", "archive_paths", "choose_kernels", "read_about"]

ABOUT = "about.json"
"""The member that describes the others: format, digest, the version of triton, and `kernels`, by name and target."""
COMMAND = "python -m samplerd_server.precompile --cuda"
FORMAT = 1
_ROOT = Path(__file__).parents[2]
_SOURCES = ("core/*.py", "sampling/**/*.py")
"""What a kernel may be made of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledKernel:
    """A kernel as the driver loads it."""

    name: str
    entry: str
    """The name of the function in the image."""
    image: bytes
    """Machine code, or assembly that ends with a zero."""
    warps: int
    """Of a program: 32 threads each."""
    shared_bytes: int
    """Shared memory of a program."""


@cache
def source_digest() -> str:
    """Compute the digest of all that kernels are made of, in hexadecimal digits."""
    digest = hashlib.sha256(f"{FORMAT}".encode())
    for path in sorted({path for pattern in _SOURCES for path in _ROOT.glob(pattern)}):
        digest.update(f"{path.relative_to(_ROOT)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def archive_paths() -> Iterator[Path]:
    """Yield where the archive is looked for, and where it is saved: the first folder that can be written."""
    for folder in kernel_folders(Path(__file__).parent / "__pycache__"):
        yield folder / f"gpu-{source_digest()[:16]}.zip"


def read_about(path: Path) -> dict[str, Any] | None:
    """Read the description in an archive; None if it is absent, damaged, or of other sources."""
    try:
        with ZipFile(path) as archive:
            about: dict[str, Any] = json.loads(archive.read(ABOUT))
    except (OSError, BadZipFile, KeyError, ValueError):
        return None
    return about if about.get("format") == FORMAT and about.get("digest") == source_digest() else None


def choose_kernels(capability: int) -> dict[str, CompiledKernel]:
    """Load the kernels for a card by its compute capability, ten times: machine code, or assembly for a later one.

    Raises:
        DeviceError: the card is older than all of them, or they were not compiled.

    """
    for path in archive_paths():
        about = read_about(path)
        if about is not None:
            return _load(path, about, capability)
    raise DeviceError(f"the kernels for GPUs are not compiled: {COMMAND}")


def _load(path: Path, about: dict[str, Any], capability: int) -> dict[str, CompiledKernel]:
    lowest = min(about["architectures"])
    if capability < lowest:
        raise DeviceError(
            f"the card has compute capability {capability / 10}, and the kernels need {lowest / 10} or later"
        )
    target = str(capability) if capability in about["architectures"] else "ptx"
    try:
        with ZipFile(path) as archive:
            return {name: _read(archive, name, own[target]) for name, own in about["kernels"].items()}
    except (OSError, BadZipFile, KeyError) as error:
        raise DeviceError(
            f"the kernels for GPUs in {path} cannot be read: {error}; remove it, then {COMMAND}"
        ) from None


def _read(archive: ZipFile, name: str, own: dict[str, Any]) -> CompiledKernel:
    return CompiledKernel(
        name=name, entry=own["entry"], image=archive.read(own["file"]), warps=own["warps"], shared_bytes=own["shared"]
    )
