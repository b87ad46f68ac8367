"""The service of the Open Inference Protocol, inference.GRPCInferenceService."""

from __future__ import annotations

from samplerd.oip import grpc_service_pb2 as oip
from samplerd_server.transport.rpc.descriptor import RpcService

__all__ = ["INFERENCE"]

INFERENCE = RpcService(contract=oip.DESCRIPTOR.services_by_name["GRPCInferenceService"], lists_capabilities=False)
