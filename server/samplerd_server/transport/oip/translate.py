"""The arrow ``ModelInferRequest -> SampleRequest``: the protocol's names and shapes become fields of our contract.

The `Decoder` of our own requests then checks their values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.core.entity import entity
from samplerd_server.core.errors import InvalidRequestError
from samplerd_server.transport.codec.decode_guidance import GuidanceRows
from samplerd_server.transport.codec.decode_rows import check_shape, check_tensor
from samplerd_server.transport.codec.decode_shared_memory import decode_cuda_memory, decode_shared_memory
from samplerd_server.transport.codec.fresh_seed import fresh_seed
from samplerd_server.transport.oip.echo import shown, shown_shape
from samplerd_server.transport.oip.model import DTYPES, INPUTS, MODEL, OUTPUTS, ROWS, check_model
from samplerd_server.transport.oip.parameters import set_parameter, set_tensor, timeout_of
from samplerd_server.transport.oip.regions import CudaPlace
from samplerd_server.transport.oip.tensors import place_of, read_inputs, value_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from samplerd.oip import grpc_service_pb2 as oip
    from samplerd_server.core.request import SampleRequest
    from samplerd_server.core.rows import DenseRows
    from samplerd_server.transport.codec.decode import Decoder
    from samplerd_server.transport.oip.regions import AnyPlace, Regions
    from samplerd_server.transport.oip.tensors import Input

__all__ = ["Inference", "Output", "Translator"]

_KINDS = {"logits": pb.INPUT_KIND_LOGITS, "probabilities": pb.INPUT_KIND_PROBABILITIES}
_PROCESSED = pb.LOGPROB_KIND_PROCESSED


@entity
class Output:
    """An output tensor that is asked for."""

    name: str
    place: AnyPlace | None
    """Where in shared memory to write it; None = into the reply."""


_ALL = tuple(Output(name=name, place=None) for name in OUTPUTS)


@entity
class Inference:
    """A request of the protocol, translated and checked."""

    id: int
    """A number that the server chooses: it tells the requests of a stream apart."""
    name: str
    """The client's id, which may be empty, and may be the same in several requests."""
    sample: SampleRequest
    outputs: tuple[Output, ...]
    timeout_s: float | None
    """The client's timeout in seconds; None = it sets none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Translator:
    """Translates requests within the limits and capabilities of this server."""

    decoder: Decoder
    regions: Regions
    """The registered regions of shared memory."""

    def translate(self, request: oip.ModelInferRequest, number: int = 0) -> Inference:
        """Translate and check one request.

        Raises:
            SamplerdError: it is malformed, contradictory, out of range, or wants what does not work here.

        """
        check_model(request.model_name, request.model_version)
        kind = self._find_kind([tensor.name for tensor in request.inputs])
        inputs = read_inputs(request, self.regions)
        rows, load = self._rows_of(inputs[kind])
        guidance = GuidanceRows(*self._rows_of(inputs["guidance"])) if "guidance" in inputs else None
        message = pb.SampleRequest(kind=_KINDS[kind])
        timeout_s = None
        for key in sorted(request.parameters):
            value = value_of(request.parameters[key])
            if key == "timeout":
                timeout_s = timeout_of(value)
            else:
                set_parameter(message, key, value)
        for name, tensor in inputs.items():
            if name not in ROWS:
                set_tensor(message, tensor, rows.rows)
        if not message.HasField("seed") and not message.row_seeds:
            message.seed = fresh_seed() >> 11  # below 2^53: every client can read it and send it again, JavaScript too
        outputs = self._outputs(request)
        if any(output.name == "logprobs" for output in outputs):
            if not message.outputs.logprobs:
                message.outputs.logprobs.append(_PROCESSED)
        else:
            message.ClearField("outputs")
        return Inference(
            id=number,
            name=request.id,
            sample=self.decoder.decode_with(message, rows, load, guidance),
            outputs=outputs,
            timeout_s=timeout_s,
        )

    @staticmethod
    def _find_kind(names: list[str]) -> str:
        """Find the input that has the rows."""
        unknown = [name for name in names if name not in INPUTS]
        if unknown:
            raise InvalidRequestError(
                "inputs", f"the model {MODEL} has no input {shown(unknown[0])}; it has {', '.join(INPUTS)}"
            )
        given = [name for name in _KINDS if name in names]
        if len(given) != 1:
            raise InvalidRequestError("logits", "give the rows once: as the input logits, or as probabilities")
        return given[0]

    def _rows_of(self, tensor: Input) -> tuple[DenseRows, Callable[[], None] | None]:
        """Check rows; returns them, and what copies them out of shared memory if they are there."""
        dtype = DTYPES.get(tensor.datatype)
        if dtype is None:
            raise InvalidRequestError(f"{tensor.name}.datatype", f"must be one of {', '.join(DTYPES)}")
        if not 1 <= len(tensor.shape) <= 2:
            path = f"{tensor.name}.shape"
            raise InvalidRequestError(path, f"{shown_shape(tensor.shape)} is neither [rows, V] nor [V]")
        *above, vocab_size = tensor.shape
        rows = above[0] if above else 1
        path = f"{tensor.name}.shape"
        check_shape(rows, path, vocab_size, path, self.decoder.limits)
        if tensor.place is None:
            source = check_tensor(dtype, rows, vocab_size, tensor.data, self.decoder.limits, tensor.name)
            return source, None
        if isinstance(tensor.place, CudaPlace):
            cuda = pb.CudaSharedMemory(dtype=dtype, rows=rows, vocab_size=vocab_size, **tensor.place._asdict())
            return decode_cuda_memory(cuda, self.decoder.limits, self.regions.cuda, tensor.name)
        assert self.regions.system is not None, "a place without regions. This is a bug."
        memory = pb.SharedMemory(dtype=dtype, rows=rows, vocab_size=vocab_size, **tensor.place._asdict())
        return decode_shared_memory(memory, self.decoder.limits, self.regions.system.regions, tensor.name)

    def _outputs(self, request: oip.ModelInferRequest) -> tuple[Output, ...]:
        """Read which outputs are asked for: all of them, unless the request names some."""
        if not request.outputs:
            return _ALL
        outputs: dict[str, Output] = {}
        for number, output in enumerate(request.outputs):
            name = output.name
            if name not in OUTPUTS:
                raise InvalidRequestError(f"outputs[{number}].name", f"{shown(name)} is none of {', '.join(OUTPUTS)}")
            if name in outputs:
                raise InvalidRequestError(f"outputs[{number}].name", f"{name} comes twice")
            outputs[name] = Output(name=name, place=place_of(output.parameters, name, self.regions))
        return tuple(outputs.values())
