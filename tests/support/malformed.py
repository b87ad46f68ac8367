"""Every kind of request that the contract refuses as INVALID_ARGUMENT, with the path of the field that is to blame.

Used twice: against the decoder alone, and over the wire.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from samplerd.v1 import sampler_pb2 as pb
from tests.support.requests import tensor

Change = Callable[[pb.SampleRequest], object]


def good() -> pb.SampleRequest:
    """Two rows of three numbers."""
    return pb.SampleRequest(id=7, tensor=tensor([[0, 1, 2], [3, 4, 5]]))


def _set(path: str, value: object) -> Change:
    *parents, name = path.split(".")

    def change(message: pb.SampleRequest) -> None:
        target = message
        for parent in parents:
            target = getattr(target, parent)
        setattr(target, name, value)

    return change


def _values(*rows: list[float]) -> Change:
    return lambda message: message.values.CopyFrom(pb.Values(row=[pb.Values.Row(values=row) for row in rows]))


def _clear(field: str) -> Change:
    return lambda message: message.ClearField(field)


def _row_params(*temperatures: float) -> Change:
    return lambda message: message.row_params.extend(pb.SamplingParams(temperature=t) for t in temperatures)


def _guided(**tensor_fields: Any) -> Change:
    return lambda message: message.guidance.tensor.CopyFrom(pb.Tensor(**tensor_fields))


def _both_params(message: pb.SampleRequest) -> None:
    message.params.temperature = 1.0
    _row_params(1.0, 1.0)(message)


def _both_seeds(message: pb.SampleRequest) -> None:
    message.seed = 1
    message.row_seeds.extend([1, 2])


def _offset_without(message: pb.SampleRequest) -> None:
    message.replacement = pb.REPLACEMENT_WITHOUT
    message.draw_offset = 1


def _offset_beyond(message: pb.SampleRequest) -> None:
    message.num_samples = 2
    message.draw_offset = 2**64 - 1


MALFORMED: dict[str, tuple[Change, str]] = {
    "no source": (_clear("tensor"), "source"),
    "one byte short": (_set("tensor.data", bytes(23)), "tensor.data"),
    "one byte long": (_set("tensor.data", bytes(25)), "tensor.data"),
    "no bytes": (_set("tensor.data", b""), "tensor.data"),
    "bytes of another dtype": (_set("tensor.dtype", pb.DTYPE_F16), "tensor.data"),
    "rows beyond the bytes": (_set("tensor.rows", 3), "tensor.data"),
    "empty vocabulary": (_set("tensor.vocab_size", 0), "tensor.vocab_size"),
    "vocabulary beyond the limit": (_set("tensor.vocab_size", 2**32 - 1), "tensor.vocab_size"),
    "rows beyond the limit": (_set("tensor.rows", 2**32 - 1), "tensor.rows"),
    # 2^10 x 2^22 x 4 bytes = 2^34: 0 in 32 bits.
    "rows x vocabulary overflow": (
        lambda message: message.tensor.CopyFrom(pb.Tensor(rows=1 << 10, vocab_size=1 << 22)),
        "tensor.data",
    ),
    "unknown dtype": (_set("tensor.dtype", 5), "tensor.dtype"),
    "negative dtype": (_set("tensor.dtype", -1), "tensor.dtype"),
    "unknown kind": (_set("kind", 3), "kind"),
    "unknown replacement": (_set("replacement", 3), "replacement"),
    "priority beyond the range": (_set("priority", 101), "priority"),
    "priority below the range": (_set("priority", -101), "priority"),
    "values without rows": (_values(), "values.row"),
    "values with an empty row": (_values([1.0], []), "values.row[1].values"),
    "values with an empty first row": (_values([], []), "values.row[0].values"),
    "values with ragged rows": (_values([1.0, 2.0], [1.0]), "values.row[1].values"),
    "values with rows beyond the limit": (_values(*[[1.0]] * 4097), "values.row"),
    "guidance without rows": (lambda message: message.guidance.SetInParent(), "guidance"),
    "guidance of a wrong length": (_guided(rows=2, vocab_size=3, data=bytes(23)), "guidance.tensor.data"),
    "guidance of too few rows": (_guided(rows=1, vocab_size=3, data=bytes(12)), "guidance"),
    "guidance of another vocabulary": (_guided(rows=2, vocab_size=2, data=bytes(16)), "guidance"),
    "guidance of an unknown dtype": (
        _guided(rows=2, vocab_size=3, data=bytes(24), dtype=5),
        "guidance.tensor.dtype",
    ),
    "guidance that no row uses": (_guided(rows=2, vocab_size=3, data=bytes(24)), "guidance"),
    "guidance_scale without guidance": (_set("params.guidance_scale", 2.0), "params.guidance_scale"),
    "guidance of an empty vocabulary": (_guided(rows=2), "guidance.tensor.vocab_size"),
    "params beside row_params": (_both_params, "row_params"),
    "too few row_params": (_row_params(1.0), "row_params"),
    "too many row_params": (_row_params(1.0, 1.0, 1.0), "row_params"),
    "bad temperature of one row": (_row_params(1.0, -1.0), "row_params[1].temperature"),
    "NaN temperature": (_set("params.temperature", math.nan), "params.temperature"),
    "infinite temperature": (_set("params.temperature", math.inf), "params.temperature"),
    "negative temperature": (_set("params.temperature", -1e-9), "params.temperature"),
    "seed beside row_seeds": (_both_seeds, "row_seeds"),
    "too few row_seeds": (lambda message: message.row_seeds.append(1), "row_seeds"),
    "samples beyond the limit": (_set("num_samples", (1 << 23) + 1), "num_samples"),
    "samples x rows overflow": (_set("num_samples", 2**31), "num_samples"),
    "draw_offset without replacement": (_offset_without, "draw_offset"),
    "draw_offset beyond 2^64": (_offset_beyond, "draw_offset"),
    "unspecified kind of logprobs": (
        lambda message: message.outputs.logprobs.extend([pb.LOGPROB_KIND_RAW, pb.LOGPROB_KIND_UNSPECIFIED]),
        "outputs.logprobs[1]",
    ),
    "unknown kind of logprobs": (lambda message: message.outputs.logprobs.append(4), "outputs.logprobs[0]"),
    "unknown kind of entropy": (lambda message: message.outputs.entropy.append(-1), "outputs.entropy[0]"),
}


def malformed(name: str) -> tuple[pb.SampleRequest, str]:
    """One of them: the request and the path."""
    change, path = MALFORMED[name]
    message = good()
    change(message)
    return message, path
