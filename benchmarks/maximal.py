"""`python -m benchmarks.maximal PORT KIND`: send the largest requests of one kind, one after the other, until stopped.

Prints a line for each reply: the seconds that it took. In a process of its own, so that building and reading large
messages does not delay the calls that are measured beside. With a third argument, `empty`, the bytes are sent to a
handler that looks at nothing (`benchmarks.empty_server`), as calls of Sample.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
import numpy as np

from benchmarks.load import SAMPLE_PATH
from samplerd.v1 import sampler_pb2 as pb
from samplerd.v1 import sampler_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["KINDS"]

_V = 131_072
_UPLOADED = "maximal"
_LARGE = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def _numbers(rows: int, vocab_size: int) -> NDArray[np.float32]:
    return np.random.default_rng(1).normal(size=(rows, vocab_size)).astype(np.float32) * 3


def _tensor(numbers: NDArray[np.float32]) -> pb.Tensor:
    return pb.Tensor(dtype=pb.DTYPE_F32, rows=len(numbers), vocab_size=numbers.shape[1], data=numbers.tobytes())


def _raw() -> pb.Outputs:
    return pb.Outputs(raw_samples=True)


def _draws() -> pb.SampleRequest:
    return pb.SampleRequest(tensor=_tensor(_numbers(1, _V)), num_samples=1 << 22, outputs=_raw(), seed=1)


def _listed_draws() -> pb.SampleRequest:
    return pb.SampleRequest(tensor=_tensor(_numbers(1, _V)), num_samples=1 << 22, seed=1)


def _filtered() -> pb.SampleRequest:
    params = pb.SamplingParams(typical_p=0.95, top_p=0.999)
    return pb.SampleRequest(tensor=_tensor(_numbers(120, _V)), params=params, outputs=_raw(), seed=1)


def _named() -> pb.SampleRequest:
    params = pb.SamplingParams(typical_p=0.95, top_p=0.999)
    return pb.SampleRequest(distribution=_UPLOADED, params=params, outputs=_raw(), seed=1)


def _filtered_draws() -> pb.SampleRequest:
    params = pb.SamplingParams(top_p=0.99)
    return pb.SampleRequest(tensor=_tensor(_numbers(1, _V)), params=params, num_samples=1 << 22, outputs=_raw(), seed=1)


def _without() -> pb.SampleRequest:
    return pb.SampleRequest(
        tensor=_tensor(_numbers(1, 4_000_000)),
        num_samples=2_000_000,
        replacement=pb.REPLACEMENT_WITHOUT,
        outputs=_raw(),
        seed=1,
    )


def _draft() -> pb.VerifyDraftRequest:
    target = _numbers(61, _V)
    weights = np.exp(target[:60] - target[:60].max(axis=1, keepdims=True))
    ids = target[:60].argmax(axis=1)  # each is likely, and q = p accepts all
    return pb.VerifyDraftRequest(target=_tensor(target), draft=_tensor(weights), draft_ids=ids.tolist(), seed=1)


def _history() -> pb.SampleRequest:
    tokens = np.random.default_rng(2).permutation(_V).tolist()
    params = pb.SamplingParams(history=tokens, dry=pb.DryParams(multiplier=1.0, sequence_breakers=tokens[::-1]))
    return pb.SampleRequest(tensor=_tensor(_numbers(1, _V)), params=params, seed=1)


KINDS: dict[str, tuple[str, Callable[[], pb.SampleRequest | pb.VerifyDraftRequest]]] = {
    "draws": (f"{1 << 22:,} draws from one row of {_V:,}", _draws),
    "listed draws": ("the same, answered as numbers rather than raw bytes", _listed_draws),
    "filtered draws": (f"{1 << 22:,} draws with top_p", _filtered_draws),
    "filtered rows": (f"120 rows of {_V:,} with typical_p and top_p", _filtered),
    "filtered rows by name": ("the same rows, uploaded before", _named),
    "without replacement": ("2,000,000 of 4,000,000 without replacement", _without),
    "draft": (f"60 drafted tokens over {_V:,}, all accepted", _draft),
    "history": (f"{_V:,} tokens of history and as many DRY breakers", _history),
}
"""The largest requests, by name: what they are, and how to build one."""


def _send_bytes(channel: grpc.Channel, request: pb.SampleRequest | pb.VerifyDraftRequest) -> NoReturn:
    """Send the request's bytes to an empty handler, again and again."""
    serialize = type(request).SerializeToString
    call: grpc.UnaryUnaryMultiCallable[Any, Any] = channel.unary_unary(SAMPLE_PATH, request_serializer=serialize)
    while True:
        began = time.monotonic()
        call(request)
        print(time.monotonic() - began, flush=True)


def main() -> None:
    """Run the command."""
    port, kind, *handler = sys.argv[1:]
    request = KINDS[kind][1]()
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=_LARGE) as channel:
        if handler == ["empty"]:
            _send_bytes(channel, request)
        stub = sampler_pb2_grpc.SamplerServiceStub(channel)
        if not isinstance(request, pb.VerifyDraftRequest) and request.distribution:
            stub.CreateDistribution(pb.CreateDistributionRequest(name=_UPLOADED, tensor=_tensor(_numbers(120, _V))))
        while True:
            began = time.monotonic()
            if isinstance(request, pb.VerifyDraftRequest):
                stub.VerifyDraft(request)
            else:
                stub.Sample(request)
            print(time.monotonic() - began, flush=True)


if __name__ == "__main__":
    main()
