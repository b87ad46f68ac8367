"""The service of our own contract, samplerd.v1.SamplerService, and where all contracts that we serve are found by name.

The Open Inference Protocol's descriptors lie in a pool of their own: other packages in this process (tritonclient,
kserve) may register the same names in protobuf's default pool. Rule 1: a name is looked for in that pool first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf import descriptor_pool

from samplerd.oip import grpc_service_pb2 as oip
from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.transport.rpc.descriptor import RpcService

if TYPE_CHECKING:
    from google.protobuf.descriptor import (
        Descriptor,
        FieldDescriptor,
        FileDescriptor,
        MethodDescriptor,
        ServiceDescriptor,
    )

__all__ = ["SAMPLER", "ContractPool", "find_method"]

SAMPLER = RpcService(contract=pb.DESCRIPTOR.services_by_name["SamplerService"], lists_capabilities=True)

_POOLS = (oip.DESCRIPTOR.pool, descriptor_pool.Default())


class ContractPool:
    """The pools of all contracts, read as one, for what takes protobuf's DescriptorPool.

    Every finder raises KeyError for what it does not find.
    """

    # ruff: disable[N802]  # the names are protobuf's

    def FindFileByName(self, name: str) -> FileDescriptor:
        """Return the file with this path."""
        file: FileDescriptor = _first("FindFileByName", name)
        return file

    def FindFileContainingSymbol(self, name: str) -> FileDescriptor:
        """Return the file that defines what has this full name."""
        file: FileDescriptor = _first("FindFileContainingSymbol", name)
        return file

    def FindMessageTypeByName(self, name: str) -> Descriptor:
        """Return the message with this full name."""
        message: Descriptor = _first("FindMessageTypeByName", name)
        return message

    def FindExtensionByNumber(self, message: Descriptor, number: int) -> FieldDescriptor:
        """Return an extension of a message, which its own pool knows."""
        return message.file.pool.FindExtensionByNumber(message, number)

    def FindAllExtensions(self, message: Descriptor) -> list[FieldDescriptor]:
        """Return all extensions of a message, which its own pool knows."""
        return list(message.file.pool.FindAllExtensions(message))

    # ruff: enable[N802]


def _first(finder: str, name: str) -> Any:
    for pool in _POOLS:
        try:
            return getattr(pool, finder)(name)
        except KeyError:
            continue
    raise KeyError(name)


def find_method(service: str, name: str) -> MethodDescriptor | None:
    """Return the descriptor of a method; None if there is no such service or method."""
    try:
        found: ServiceDescriptor = _first("FindServiceByName", service)
    except KeyError:
        return None
    return found.methods_by_name.get(name)
