"""Repeated fields as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from samplerd.v1 import sampler_pb2 as pb
from samplerd_client.wire import repeated


@pytest.mark.parametrize("count", [0, 1, 63, 64, 1000])
def test_repeated_fields(count: int) -> None:
    whole = np.arange(-1, count - 1, dtype=np.int32)
    real = np.linspace(-30.0, 0.1, count, dtype=np.float32)
    message = pb.SampleResponse(samples=whole.tolist(), logprobs=[pb.Logprobs(samples=real.tolist())])
    for field, wanted in ((message.samples, whole), (message.logprobs[0].samples, real)):
        array = repeated(field, wanted.dtype)
        assert array.dtype == wanted.dtype
        assert array.tolist() == wanted.tolist()
        assert array.flags.writeable


@pytest.mark.parametrize("count", [3, 500])
def test_the_array_is_the_callers_own(count: int) -> None:
    message = pb.SampleResponse(samples=range(count))
    repeated(message.samples, np.int32)[:] = -1
    assert list(message.samples) == list(range(count))


class Old(list):
    """A repeated field of a protobuf that knows nothing of numpy."""


@pytest.mark.parametrize("values", [Old(range(500)), range(500)])
def test_fields_without_an_array(values: Any) -> None:
    assert repeated(values, np.int32).tolist() == list(range(500))
