"""The service of our own contract, samplerd.v1.SamplerService."""

from __future__ import annotations

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.transport.rpc.descriptor import RpcService

__all__ = ["SAMPLER"]

SAMPLER = RpcService(contract=pb.DESCRIPTOR.services_by_name["SamplerService"], lists_capabilities=True)
