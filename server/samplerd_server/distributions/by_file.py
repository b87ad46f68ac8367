"""The store of an engine behind doors: it finds rows by the file that a door has found by their name.

A door that draws from a distribution maps its file. A request for a further part of a draw may come when the name is
gone, or stands for other rows; the file is the same, and stays for as long as the door maps it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samplerd_server.distributions.files import needs_folder
from samplerd_server.distributions.folder import GONE, FolderStore
from samplerd_server.distributions.store import not_found

if TYPE_CHECKING:
    from samplerd_server.core.rows import StoredRows

__all__ = ["FileStore"]


class FileStore(FolderStore):
    """A `FolderStore` that also finds rows by their file."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Use an existing folder; the arguments are those of `FolderStore`."""
        super().__init__(*arguments, **options)
        self._nameless: dict[int, StoredRows] = {}
        """Rows by inode number that a door draws from although their name is gone; emptied with the expired ones."""

    @needs_folder
    def find_file(self, name: str, file: int) -> StoredRows:
        """Give the rows in a file that another process maps, which has or had this name; not counted as a use.

        Raises:
            NotFoundError: there is no such file any more.

        """
        mapped = self._mapped.get(name)
        if mapped is not None and mapped.inode == file:
            return mapped.segment.rows
        rows = self._nameless.get(file)
        if rows is None:
            rows = self._nameless[file] = self._map_file(name, file)
        return rows

    def _map_file(self, name: str, file: int) -> StoredRows:
        """Map a file by its inode number: the one that has the name, or one that has lost its name."""
        mapped, _ = self._refresh(name)
        if mapped is not None and mapped.inode == file:
            return mapped.segment.rows
        with os.scandir(self._folder) as entries:
            paths = [Path(own.path) for own in entries if own.name.startswith(GONE) and own.inode() == file]
        for path in paths:
            with suppress(FileNotFoundError):
                return self._map_path(path).segment.rows
        raise not_found(name)

    def free_expired(self) -> None:
        """Delete the expired distributions, and let go of those whose name is gone."""
        self._nameless.clear()
        super().free_expired()
