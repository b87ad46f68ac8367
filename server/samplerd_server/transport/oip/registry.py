"""Regions of shared memory that clients have registered under names of their choice.

Rule 1: a name stands for a key, an offset and a size, and for nothing that is open or mapped: every use opens the
region anew, and checks its bounds anew. Rule 2: how many there can be is bounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from samplerd_server.core.errors import AlreadyExistsError, FullError, InvalidRequestError, NotFoundError
from samplerd_server.transport.oip.echo import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from samplerd_server.transport.shared_memory.reader import SharedMemoryReader

__all__ = ["Place", "RegistryFullError", "SharedMemoryRegistry"]

_MAX_REGIONS = 1024
_MAX_NAME = 255


class Place(NamedTuple):
    """Bytes within a region of shared memory."""

    key: str
    offset: int
    byte_size: int


class RegistryFullError(FullError):
    """Expected: there is no room for another region until one is unregistered."""

    reason = "REGIONS_FULL"


class SharedMemoryRegistry:
    """The regions that are registered."""

    def __init__(self, regions: SharedMemoryReader) -> None:
        self.regions = regions
        """Reads and writes regions, and says which keys may be named."""
        self._places: dict[str, Place] = {}

    def register(self, name: str, place: Place) -> None:
        """Register a place under a name.

        Raises:
            AlreadyExistsError: the name is taken.
            RegistryFullError: there are too many.
            InvalidRequestError: the name or the key is malformed, or the size is 0.
            PermissionDeniedError: requests may not name this key.

        """
        if not 1 <= len(name) <= _MAX_NAME:
            raise InvalidRequestError("name", f"must have 1 to {_MAX_NAME} characters")
        if place.byte_size < 1:
            raise InvalidRequestError("byte_size", "must be at least 1")
        self.regions.resolve(place.key, "register")
        if name in self._places:
            raise AlreadyExistsError(f"name: the region {name} is registered; unregister it first")
        if len(self._places) >= _MAX_REGIONS:
            raise RegistryFullError(f"{_MAX_REGIONS} regions are registered, which is the most there can be")
        self._places[name] = place

    def has(self, name: str) -> bool:
        """Tell whether a region has this name."""
        return name in self._places

    def unregister(self, name: str) -> None:
        """Unregister one region, or all of them for an empty name. In the protocol a missing one is no error."""
        if name:
            self._places.pop(name, None)
        else:
            self._places.clear()

    def status(self, name: str) -> Mapping[str, Place]:
        """List one region, or all of them for an empty name.

        Raises:
            NotFoundError: there is none of this name.

        """
        if not name:
            return self._places
        if name not in self._places:
            raise NotFoundError(f"name: no region {shown(name)} is registered")
        return {name: self._places[name]}

    def place(self, name: str, offset: int, byte_size: int, path: str) -> Place:
        """Find bytes within a registered region.

        Raises:
            InvalidRequestError: they are not all within it.
            NotFoundError: there is none of this name.

        """
        whole = self._places.get(name)
        if whole is None:
            raise NotFoundError(f"{path}: no region {shown(name)} is registered")
        if offset < 0 or byte_size < 0 or offset + byte_size > whole.byte_size:
            raise InvalidRequestError(
                path, f"{byte_size} bytes from {offset} on are not within the {whole.byte_size} that are registered"
            )
        return Place(whole.key, whole.offset + offset, byte_size)
