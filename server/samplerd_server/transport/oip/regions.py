"""The regions that tensors of requests may lie in, whichever memory they are of: the host's, or a CUDA device's.

Both kinds share their names, as in Triton: a tensor names a region, and not its kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from samplerd_server.core.errors import AlreadyExistsError, InvalidRequestError, NotImplementedFieldError
from samplerd_server.transport.oip.registry import Place

if TYPE_CHECKING:
    from samplerd_server.transport.oip.registry import SharedMemoryRegistry
    from samplerd_server.transport.shared_memory.cuda_regions import CudaRegion, CudaRegions

__all__ = ["AnyPlace", "CudaPlace", "Regions"]

_OFF = "is off on this server; --shared-memory-prefix turns it on, and --cuda-shared-memory memory of a CUDA device"


class CudaPlace(NamedTuple):
    """Bytes within a region of a CUDA device."""

    region: str
    offset: int
    byte_size: int


AnyPlace: TypeAlias = Place | CudaPlace


class Regions:
    """The registered regions of both kinds."""

    def __init__(self, system: SharedMemoryRegistry | None, cuda: CudaRegions) -> None:
        """Join them; system: None = shared memory of the host is turned off."""
        self.system = system
        self.cuda = cuda

    def register(self, name: str, place: Place, rpc: str) -> None:
        """Register memory of the host. Raises what the registry raises; NotImplementedFieldError: it is off."""
        if self.system is None:
            raise NotImplementedFieldError(rpc, "is off on this server; --shared-memory-prefix turns it on")
        if self.cuda.has(name):
            raise _taken(name)
        self.system.register(name, place)

    async def register_cuda(self, name: str, region: CudaRegion, rpc: str) -> None:
        """Register memory of a CUDA device. Raises what `CudaRegions.register` raises."""
        if self.cuda.is_on and self.system is not None and self.system.has(name):
            raise _taken(name)
        await self.cuda.register(name, region, rpc)

    def place(self, name: str, offset: int, byte_size: int, path: str) -> AnyPlace:
        """Find bytes within a registered region.

        Raises:
            InvalidRequestError: they are not all within it.
            NotFoundError: there is none of this name.
            NotImplementedFieldError: shared memory of both kinds is off.

        """
        if self.cuda.has(name):
            self.cuda.check(name, offset, byte_size, path)
            return CudaPlace(name, offset, byte_size)
        if self.system is None:
            if not self.cuda.is_on:
                raise NotImplementedFieldError(path, _OFF)
            self.cuda.check(name, offset, byte_size, path)  # which has no such region
            raise InvalidRequestError(path, "is not registered")
        return self.system.place(name, offset, byte_size, path)

    def write(self, place: AnyPlace, data: bytes, path: str) -> None:
        """Write a result to its place. Raises SamplerdError if it does not fit, or cannot be written."""
        if isinstance(place, CudaPlace):
            self.cuda.write(place.region, place.offset, place.byte_size, data, path)
            return
        assert self.system is not None, "a place without regions. This is a bug."
        self.system.regions.write(place.key, place.offset, place.byte_size, data, path)


def _taken(name: str) -> AlreadyExistsError:
    return AlreadyExistsError(f"name: the region {name} is registered; unregister it first")
