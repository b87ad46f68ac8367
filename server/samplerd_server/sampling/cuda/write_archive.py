"""Compiles the kernels for every architecture, without a GPU, and writes them into one file: see `archive.py`.

Rule 1: a file is written whole, or not at all. Rule 2: what was compiled by another version of triton is compiled anew.
"""

from __future__ import annotations

import json
import logging
import os
import time
from typing import TYPE_CHECKING, Any
from zipfile import ZIP_DEFLATED, ZipFile

import triton

from samplerd_server.sampling.cuda.archive import ABOUT, FORMAT, archive_paths, read_about, source_digest
from samplerd_server.sampling.cuda.build import ARCHITECTURES, KERNELS, compile_kernel

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["write_archive"]

_LOG = logging.getLogger("samplerd.kernels")


def write_archive(architectures: Iterable[int] = ARCHITECTURES, kernels: Iterable[str] = tuple(KERNELS)) -> Path:
    """Compile what is missing, and return the path of the file.

    Raises:
        OSError: no folder can be written; the error is that of the last one.
        RuntimeError: the process interprets kernels, or a kernel needs memory that no launch gives it.

    """
    wanted = sorted(architectures)
    about = {"format": FORMAT, "digest": source_digest(), "triton": triton.__version__, "architectures": wanted}
    paths = list(archive_paths())
    for path in paths:
        found = read_about(path)
        if found is not None and {key: found[key] for key in about} == about:
            return path
    files: dict[str, bytes] = {}
    described = {name: _compile(name, wanted, files) for name in kernels}
    files[ABOUT] = json.dumps(about | {"kernels": described}).encode()
    for path in paths[:-1]:
        try:
            return _write(path, files)
        except OSError as error:
            _LOG.info("not written to %s: %s", path.parent, error.strerror)
    return _write(paths[-1], files)


def _compile(name: str, architectures: list[int], files: dict[str, bytes]) -> dict[str, Any]:
    """Compile a kernel for each architecture; returns what is to be known of each target."""
    targets: dict[str, Any] = {}
    for architecture in architectures:
        began = time.monotonic()
        compiled = compile_kernel(name, architecture)
        metadata = compiled.metadata
        if metadata.global_scratch_size or metadata.profile_scratch_size:
            message = f"{name} wants scratch of the launcher, which gives none"
            raise RuntimeError(message)
        own = {"entry": metadata.name, "warps": metadata.num_warps, "shared": metadata.shared}
        file = f"{name}.sm_{architecture}.cubin"
        files[file] = compiled.asm["cubin"]
        targets[str(architecture)] = own | {"file": file}
        if architecture == architectures[0]:
            files[f"{name}.ptx"] = compiled.asm["ptx"].encode() + b"\0"
            targets["ptx"] = own | {"file": f"{name}.ptx"}
        _LOG.info("%s for sm_%d, after %.1f s", name, architecture, time.monotonic() - began)
    return targets


def _write(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    spare = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        with ZipFile(spare, "w", ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        spare.replace(path)
    finally:
        spare.unlink(missing_ok=True)
    return path
