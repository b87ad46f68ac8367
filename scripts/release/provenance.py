"""Where the files of a release came from: an in-toto statement with a SLSA provenance predicate, version 1.

The format is that of https://slsa.dev/spec/v1.0/provenance. It is unsigned: a signature is worth what its key is worth,
and the key belongs to whoever publishes.
"""

from __future__ import annotations

import hashlib
import platform
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["sha256", "statement", "sums"]

_BUILD_TYPE = "https://samplerd.dev/make-release/v1"


def sha256(path: Path) -> str:
    """Give the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sums(folder: Path) -> dict[str, str]:
    """Give the SHA-256 of every file below the folder, by its path in it, in the order of their names."""
    return {str(path.relative_to(folder)): sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def statement(digests: dict[str, str], *, commit: str, is_clean: bool, started: str, finished: str) -> dict[str, Any]:
    """Give the statement about the files with these digests.

    Args:
        digests: SHA-256 by the file's name.
        commit: What was checked out.
        is_clean: Whether no file differed from it.
        started: When the build began, in RFC 3339.
        finished: When it ended, likewise.

    """
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in digests.items()],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": _BUILD_TYPE,
                "externalParameters": {"command": "make release"},
                "internalParameters": {"python": sys.version.split()[0], "platform": platform.platform()},
                "resolvedDependencies": [
                    {
                        "name": "samplerd",
                        "digest": {"gitCommit": commit},
                        "annotations": {"isClean": is_clean},
                    }
                ],
            },
            "runDetails": {
                "builder": {"id": f"{_BUILD_TYPE}/local"},
                "metadata": {"startedOn": started, "finishedOn": finished},
            },
        },
    }
