"""The RPCs of the Open Inference Protocol that draw, and those that describe the server and its model."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError

from samplerd.oip import grpc_service_pb2 as oip
from samplerd_server.core.errors import Code, SamplerdError
from samplerd_server.transport.codec.parse import parse
from samplerd_server.transport.codec.status import check_any_row_drawn
from samplerd_server.transport.oip.contract import INFERENCE
from samplerd_server.transport.oip.model import check_model, config, is_model, metadata, server_metadata, statistics
from samplerd_server.transport.oip.replies import reply_to
from samplerd_server.transport.oip.translate import Translator
from samplerd_server.transport.rpc.stream_messages import encoded_now

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from samplerd_server.batching.ticket import Reply
    from samplerd_server.core.drawn import Drawn
    from samplerd_server.metrics.metrics import Metrics
    from samplerd_server.transport.codec.decode import Decoder
    from samplerd_server.transport.oip.regions import Regions
    from samplerd_server.transport.oip.translate import Inference
    from samplerd_server.transport.rpc.call import Call
    from samplerd_server.transport.rpc.stream_messages import Encoded
    from samplerd_server.transport.rpc.streams import Streams
    from samplerd_server.transport.rpc.submitter import Submitter

__all__ = ["InferenceService"]


class InferenceService:
    """Answers the RPCs of the protocol with the sampler."""

    def __init__(
        self,
        *,
        decoder: Decoder,
        submitter: Submitter,
        streams: Streams,
        regions: Regions,
        max_rows: int,
        metrics: Metrics,
        drawn: Callable[[], Awaitable[Drawn]],
    ) -> None:
        self._submitter = submitter
        self._streams = streams
        self._regions = regions
        self._translator = Translator(decoder=decoder, regions=regions)
        self._max_rows = max_rows
        self._metrics = metrics
        self._drawn = drawn

    @INFERENCE.unary("ModelInfer", oip.ModelInferRequest, oip.ModelInferResponse)
    async def model_infer(self, request: oip.ModelInferRequest, call: Call) -> oip.ModelInferResponse:
        """Draw from the rows of one request."""
        inference = self._translator.translate(request)
        deadline = _deadline(inference, call.arrival, call.deadline)
        result = await self._submitter.submit(inference.sample, call.arrival, deadline, call.connection)
        check_any_row_drawn(inference.sample, result)
        return reply_to(inference, result, self._regions)

    @INFERENCE.bidi_stream("ModelStreamInfer", oip.ModelInferRequest, oip.ModelStreamInferResponse)
    async def model_stream_infer(self, call: Call) -> None:
        """Draw for each request of a stream."""
        messages = _StreamMessages(self._translator, self._regions)
        await self._streams.run(self._streams.new(messages, self._submit_to, call))

    def _submit_to(self, reply: Reply, inference: Inference, arrival: float, deadline: float, connection: str) -> None:
        deadline = _deadline(inference, arrival, deadline)
        self._submitter.submit_to(reply, inference.sample, arrival, deadline, connection)

    @INFERENCE.unary("ServerLive", oip.ServerLiveRequest, oip.ServerLiveResponse, is_health=True)
    async def server_live(self, _request: oip.ServerLiveRequest, _call: Call) -> oip.ServerLiveResponse:
        """Answer that the server runs."""
        return oip.ServerLiveResponse(live=True)

    @INFERENCE.unary("ServerReady", oip.ServerReadyRequest, oip.ServerReadyResponse, is_health=True)
    async def server_ready(self, _request: oip.ServerReadyRequest, _call: Call) -> oip.ServerReadyResponse:
        """Answer whether the server takes new requests."""
        return oip.ServerReadyResponse(ready=self._submitter.is_ready)

    @INFERENCE.unary("ModelReady", oip.ModelReadyRequest, oip.ModelReadyResponse)
    async def model_ready(self, request: oip.ModelReadyRequest, _call: Call) -> oip.ModelReadyResponse:
        """Answer whether there is such a model, and it takes new requests."""
        return oip.ModelReadyResponse(ready=is_model(request.name, request.version) and self._submitter.is_ready)

    @INFERENCE.unary("ServerMetadata", oip.ServerMetadataRequest, oip.ServerMetadataResponse)
    async def server_metadata(self, _request: oip.ServerMetadataRequest, _call: Call) -> oip.ServerMetadataResponse:
        """Describe the server."""
        return server_metadata(
            has_shared_memory=self._regions.system is not None, has_cuda_memory=self._regions.cuda.is_on
        )

    @INFERENCE.unary("ModelMetadata", oip.ModelMetadataRequest, oip.ModelMetadataResponse)
    async def model_metadata(self, request: oip.ModelMetadataRequest, _call: Call) -> oip.ModelMetadataResponse:
        """Describe the tensors of the model."""
        check_model(request.name, request.version)
        return metadata()

    @INFERENCE.unary("ModelConfig", oip.ModelConfigRequest, oip.ModelConfigResponse)
    async def model_config(self, request: oip.ModelConfigRequest, _call: Call) -> oip.ModelConfigResponse:
        """Describe the tensors of the model for Triton's clients."""
        check_model(request.name, request.version)
        return oip.ModelConfigResponse(config=config(self._max_rows))

    @INFERENCE.unary("ModelStatistics", oip.ModelStatisticsRequest, oip.ModelStatisticsResponse)
    async def model_statistics(self, request: oip.ModelStatisticsRequest, _call: Call) -> oip.ModelStatisticsResponse:
        """Count the work since the start."""
        if request.name:
            check_model(request.name, request.version)
        return oip.ModelStatisticsResponse(model_stats=[statistics(self._metrics, await self._drawn())])


def _deadline(inference: Inference, arrival: float, deadline: float) -> float:
    """Give when a request is due: its own timeout may end before the call's."""
    return deadline if inference.timeout_s is None else min(deadline, arrival + inference.timeout_s)


class _StreamMessages:
    """The messages of ModelStreamInfer. Their ids are texts, so each request is given a number for `Stream`."""

    def __init__(self, translator: Translator, regions: Regions) -> None:
        self._translator = translator
        self._regions = regions
        self._numbers = count(1)
        self._names: dict[int, str] = {}

    def decode(self, data: bytes) -> Inference:
        inference = self._translator.translate(parse(oip.ModelInferRequest, data), next(self._numbers))
        self._names[inference.id] = inference.name
        return inference

    def identify(self, data: bytes) -> int:
        number = next(self._numbers)
        try:
            self._names[number] = oip.ModelInferRequest.FromString(data).id
        except DecodeError:
            self._names[number] = ""
        return number

    def encode(self, request: Inference, result: Any) -> Encoded:
        try:
            check_any_row_drawn(request.sample, result)
            reply = reply_to(request, result, self._regions, is_final=True)
        except SamplerdError as error:
            return encoded_now(self.encode_error(request.id, error, ""))
        self._names.pop(request.id, None)
        return encoded_now(oip.ModelStreamInferResponse(infer_response=reply).SerializeToString())

    def encode_error(self, request_id: int, error: SamplerdError, _call_id: str) -> bytes:
        own = oip.ModelInferResponse(id=self._names.pop(request_id, ""))
        text = f"[{Code(error.code).name}] {error.message}"
        return oip.ModelStreamInferResponse(error_message=text, infer_response=own).SerializeToString()
