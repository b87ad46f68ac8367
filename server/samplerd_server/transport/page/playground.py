"""A draw for the page: a SampleRequest as proto JSON in, a call of this server, its reply as proto JSON out.

The call goes over gRPC, as any client's does: the same limits, tokens, policy and metrics hold for it, whichever
transport serves and however many workers there are. Rule: on the exporter's threads.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf import json_format
from google.rpc import error_details_pb2, status_pb2

from samplerd.v1 import sampler_pb2 as pb
from samplerd.v1 import sampler_pb2_grpc
from samplerd_server.transport.page.loopback import open_channel

if TYPE_CHECKING:
    from samplerd_server.config import SecurityConfig

__all__ = ["Answer", "Playground"]

_TIMEOUT_S = 10.0
_STATUS = "grpc-status-details-bin"

Answer = tuple[HTTPStatus, bytes]
"""A status of HTTP, and JSON."""


class Playground:
    """Draws through this server's own address."""

    def __init__(self, address: str, security: SecurityConfig) -> None:
        """Take an address that the server listens on."""
        self._address = address
        self._security = security

    def info(self, authorization: str) -> Answer:
        """Say what the server is: the reply of GetServerInfo, or what is wrong; and where clients reach it.

        The latter are the fields ``address`` and ``tls``, which are needed to write a program that asks the same.
        """
        status, body = self._call("GetServerInfo", pb.GetServerInfoRequest(), authorization)
        where = {"address": self._address, "tls": bool(self._security.certificate)}
        return status, json.dumps(json.loads(body) | where).encode()

    def sample(self, body: bytes, authorization: str) -> Answer:
        """Draw: `body` is a SampleRequest in proto JSON, `authorization` the header of that name, or empty.

        What the server refuses is a JSON object with ``code``, ``message`` and ``fields``, each of which names a field
        of the request and says what is wrong with it.
        """
        try:
            request = json_format.Parse(body, pb.SampleRequest())
        except (json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
            return _refusal("INVALID_ARGUMENT", f"the request is no SampleRequest in JSON: {error}")
        return self._call("Sample", request, authorization)

    def _call(self, method: str, request: Any, authorization: str) -> Answer:
        metadata = (("authorization", authorization),) if authorization else ()
        try:
            # A channel for each call: there are few, and nothing is left to close when the server ends.
            with open_channel(self._address, self._security) as channel:
                stub: Any = sampler_pb2_grpc.SamplerServiceStub(channel)
                reply = getattr(stub, method)(request, timeout=_TIMEOUT_S, metadata=metadata)
        except grpc.RpcError as error:
            return _refused(error)
        except (OSError, ValueError) as error:  # ValueError: grpcio's, of a header that it does not send
            return _refusal("UNAVAILABLE", f"the page cannot ask the server: {error}")
        return HTTPStatus.OK, json_format.MessageToJson(reply, indent=None).encode()


def _refused(error: Any) -> Answer:
    fields = []
    for key, value in error.trailing_metadata() or ():
        if key == _STATUS:
            for detail in status_pb2.Status.FromString(value).details:
                if detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
                    violations = error_details_pb2.BadRequest.FromString(detail.value).field_violations
                    fields += [{"field": own.field, "description": own.description} for own in violations]
    return _refusal(error.code().name, error.details(), fields)


def _refusal(code: str, message: str, fields: list[dict[str, str]] | None = None) -> Answer:
    body = {"code": code, "message": message, "fields": fields or []}
    return HTTPStatus.BAD_REQUEST, json.dumps(body).encode()
