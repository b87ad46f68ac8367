"""inference.GRPCInferenceService: the handlers, from bytes to bytes."""

from __future__ import annotations

import time
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from samplerd.oip import grpc_service_pb2 as oip
from samplerd_server.batching.ticket import NO_DEADLINE
from samplerd_server.core.errors import Code, InvalidRequestError, NotImplementedFieldError, SamplerdError
from samplerd_server.transport.codec.status import check_any_row_drawn
from samplerd_server.transport.oip.model import config, metadata, server_metadata, statistics
from samplerd_server.transport.oip.registry import Place, SharedMemoryRegistry
from samplerd_server.transport.oip.replies import reply_to
from samplerd_server.transport.oip.translate import Translator, check_model

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable, Iterable

    from grpc.aio import ServicerContext

    from samplerd_server.core.result import SampleResult
    from samplerd_server.metrics.metrics import Metrics
    from samplerd_server.transport.oip.translate import Inference
    from samplerd_server.transport.rpc.observer import RpcObserver
    from samplerd_server.transport.rpc.service import SamplerService
    from samplerd_server.transport.shared_memory.reader import SharedMemoryReader

__all__ = ["SERVICE_NAME", "InferenceService"]

SERVICE_NAME = "inference.GRPCInferenceService"
_Message = TypeVar("_Message", bound=Message)
_OFF = "is off on this server; --shared-memory-prefix turns it on"


def _parse(kind: type[_Message], data: bytes) -> _Message:
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise InvalidRequestError("request", f"not a {kind.DESCRIPTOR.name}") from error


class InferenceService:
    """Answers the RPCs of the protocol with the sampler."""

    NAME = SERVICE_NAME

    def __init__(
        self,
        sampler: SamplerService,
        *,
        regions: SharedMemoryReader | None,
        max_rows: int,
        calls: RpcObserver,
        metrics: Metrics,
    ) -> None:
        self._sampler = sampler
        self._regions = None if regions is None else SharedMemoryRegistry(regions)
        self._translator = Translator(decoder=sampler.decoder, regions=self._regions)
        self._max_rows = max_rows
        self._calls = calls
        self._metrics = metrics

    def handlers(self) -> grpc.GenericRpcHandler:
        """Give the handlers as grpcio wants them."""
        answers: dict[str, Callable[[bytes], Message]] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._model_statistics,
            "SystemSharedMemoryStatus": self._status,
            "SystemSharedMemoryRegister": self._register,
            "SystemSharedMemoryUnregister": self._unregister,
        }
        methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            rpc: grpc.unary_unary_rpc_method_handler(partial(self._answer, rpc, answer))
            for rpc, answer in answers.items()
        }
        methods["ModelInfer"] = grpc.unary_unary_rpc_method_handler(self.model_infer)
        methods["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(self.model_stream_infer)
        return grpc.method_handlers_generic_handler(SERVICE_NAME, methods)

    async def model_infer(self, data: bytes, context: ServicerContext[bytes, bytes]) -> bytes:
        """Answer ModelInfer."""
        began = time.monotonic()
        reply = b""
        async with self._calls.handle("ModelInfer", context, began):
            inference = self._translator.translate(_parse(oip.ModelInferRequest, data))
            remaining = context.time_remaining()
            deadline = NO_DEADLINE if remaining is None else began + remaining
            result = await self._submit(inference, began, deadline, context.peer())
            check_any_row_drawn(inference.sample, result)
            reply = reply_to(inference, result, self._regions).SerializeToString()
        return reply  # noqa: RET504  # an error inside ends the call

    async def model_stream_infer(self, _requests: object, context: ServicerContext[bytes, bytes]) -> None:
        """Answer ModelStreamInfer."""
        messages = _StreamMessages(self._translator, self._regions)
        await self._sampler.serve_stream(messages, self._submit, context, time.monotonic())

    def _submit(self, inference: Inference, arrival: float, deadline: float, connection: str) -> Future[SampleResult]:
        if inference.timeout_s is not None:
            deadline = min(deadline, arrival + inference.timeout_s)
        return self._sampler.submit(inference.sample, arrival, deadline, connection)

    async def _answer(
        self, rpc: str, answer: Callable[[bytes], Message], data: bytes, context: ServicerContext[bytes, bytes]
    ) -> bytes:
        """Answer what needs no device."""
        reply = b""
        async with self._calls.handle(rpc, context, time.monotonic()):
            reply = answer(data).SerializeToString()
        return reply  # noqa: RET504  # as above

    def _server_live(self, data: bytes) -> Message:
        _parse(oip.ServerLiveRequest, data)
        return oip.ServerLiveResponse(live=True)

    def _server_ready(self, data: bytes) -> Message:
        _parse(oip.ServerReadyRequest, data)
        return oip.ServerReadyResponse(ready=self._sampler.is_open)

    def _model_ready(self, data: bytes) -> Message:
        asked = _parse(oip.ModelReadyRequest, data)
        check_model(asked.name, asked.version)
        return oip.ModelReadyResponse(ready=self._sampler.is_open)

    def _server_metadata(self, data: bytes) -> Message:
        _parse(oip.ServerMetadataRequest, data)
        return server_metadata(has_shared_memory=self._regions is not None)

    def _model_metadata(self, data: bytes) -> Message:
        asked = _parse(oip.ModelMetadataRequest, data)
        check_model(asked.name, asked.version)
        return metadata()

    def _model_config(self, data: bytes) -> Message:
        asked = _parse(oip.ModelConfigRequest, data)
        check_model(asked.name, asked.version)
        return oip.ModelConfigResponse(config=config(self._max_rows))

    def _model_statistics(self, data: bytes) -> Message:
        asked = _parse(oip.ModelStatisticsRequest, data)
        if asked.name:
            check_model(asked.name, asked.version)
        return oip.ModelStatisticsResponse(model_stats=[statistics(self._metrics)])

    def _registered(self, rpc: str) -> SharedMemoryRegistry:
        if self._regions is None:
            raise NotImplementedFieldError(rpc, _OFF)
        return self._regions

    def _status(self, data: bytes) -> Message:
        asked = _parse(oip.SystemSharedMemoryStatusRequest, data)
        reply = oip.SystemSharedMemoryStatusResponse()
        for name, place in self._registered("SystemSharedMemoryStatus").status(asked.name).items():
            entry = reply.regions[name]
            entry.name, entry.key, entry.offset, entry.byte_size = name, *place
        return reply

    def _register(self, data: bytes) -> Message:
        asked = _parse(oip.SystemSharedMemoryRegisterRequest, data)
        place = Place(asked.key, asked.offset, asked.byte_size)
        self._registered("SystemSharedMemoryRegister").register(asked.name, place)
        return oip.SystemSharedMemoryRegisterResponse()

    def _unregister(self, data: bytes) -> Message:
        asked = _parse(oip.SystemSharedMemoryUnregisterRequest, data)
        self._registered("SystemSharedMemoryUnregister").unregister(asked.name)
        return oip.SystemSharedMemoryUnregisterResponse()


class _StreamMessages:
    """The messages of ModelStreamInfer, whose ids are texts: here each request has a number beside."""

    rpc = "ModelStreamInfer"

    def __init__(self, translator: Translator, regions: SharedMemoryRegistry | None) -> None:
        self._translator = translator
        self._regions = regions
        self._numbers = count(1)
        self._names: dict[int, str] = {}

    def decode(self, data: bytes) -> Inference:
        inference = self._translator.translate(_parse(oip.ModelInferRequest, data), next(self._numbers))
        self._names[inference.id] = inference.name
        return inference

    def identify(self, data: bytes) -> int:
        number = next(self._numbers)
        try:
            self._names[number] = oip.ModelInferRequest.FromString(data).id
        except DecodeError:
            self._names[number] = ""
        return number

    def encode(self, request: Inference, result: Any) -> Iterable[bytes]:
        try:
            check_any_row_drawn(request.sample, result)
            reply = reply_to(request, result, self._regions)
        except SamplerdError as error:
            return (self.encode_error(request.id, error),)
        self._names.pop(request.id, None)
        return (oip.ModelStreamInferResponse(infer_response=reply).SerializeToString(),)

    def encode_error(self, request_id: int, error: SamplerdError) -> bytes:
        own = oip.ModelInferResponse(id=self._names.pop(request_id, ""))
        text = f"[{Code(error.code).name}] {error.message}"
        return oip.ModelStreamInferResponse(error_message=text, infer_response=own).SerializeToString()
