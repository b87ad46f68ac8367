"""Requests as tests need them: decoded ones for the layers below the transport, messages for the wire."""

from __future__ import annotations

from asyncio import Future
from typing import Any

import numpy as np

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.batching.ticket import NO_DEADLINE, Ticket
from samplerd_server.core.enums import Dtype
from samplerd_server.core.params import SamplingParams
from samplerd_server.core.request import SampleRequest
from samplerd_server.core.rows import DenseRows


def tensor(rows: Any, dtype: str = "<f4") -> pb.Tensor:
    """A message's tensor of float32 (or another numpy dtype that the contract knows)."""
    array = np.atleast_2d(np.asarray(rows, dtype))
    number = {"<f4": pb.DTYPE_F32, "<f2": pb.DTYPE_F16, "<f8": pb.DTYPE_F64}[dtype]
    return pb.Tensor(dtype=number, rows=array.shape[0], vocab_size=array.shape[1], data=array.tobytes())


def one_hot(rows: int, vocab_size: int, ids: Any) -> np.ndarray:
    """Rows from which only one id can be drawn."""
    array = np.full((rows, vocab_size), -np.inf, np.float32)
    array[np.arange(rows), ids] = 0.0
    return array


def request(rows: Any, **fields: Any) -> SampleRequest:
    """A decoded request of float32 rows."""
    array = np.atleast_2d(np.asarray(rows, np.float32))
    source = DenseRows(dtype=Dtype.F32, rows=array.shape[0], vocab_size=array.shape[1], data=array.tobytes())
    fields = {"id": 1, "source": source, "params": (SamplingParams(),), "work": array.nbytes, **fields}
    greedy = sum(own.is_greedy for own in fields["params"]) * (array.shape[0] if len(fields["params"]) == 1 else 1)
    return SampleRequest(**{"greedy_rows": greedy, **fields})


class Reply(Future):
    """A future that needs no running loop."""

    def __init__(self) -> None:
        super().__init__(loop=_NoLoop())


class _NoLoop:
    def get_debug(self) -> bool:
        return False

    def call_soon(self, callback: Any, *arguments: Any, context: Any = None) -> None:
        callback(*arguments)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Nobody needs to look at the error of a reply that a test left alone."""


def ticket(
    *,
    rows: int = 1,
    vocab_size: int = 4,
    arrival: float = 0.0,
    deadline: float = NO_DEADLINE,
    connection: str = "a",
    priority: int = 0,
    num_samples: int = 1,
    reply: Any = None,
    requests: int = 1,
) -> Ticket:
    """A ticket of zeros."""
    return Ticket(
        request(np.zeros((rows, vocab_size)), priority=priority, num_samples=num_samples),
        arrival=arrival,
        deadline=deadline,
        connection=connection,
        reply=Reply() if reply is None else reply,
        requests=requests,
    )
