"""Messages between a door and the engine as bytes: Python's pickle, with arrays as bytes, of known classes alone.

Rule 1: nothing is made but numbers, texts, tuples, arrays and the classes of `_KNOWN`: a door speaks with strangers,
and what it hands on must not be able to run code in the engine.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np

from samplerd_server.core import enums, errors, outputs, params, result, rows
from samplerd_server.core.engine_facts import EngineFacts

__all__ = ["dump_error", "dumps", "load_error", "loads"]


def _array(data: bytes, dtype: str) -> np.ndarray[Any, Any]:
    return np.frombuffer(bytearray(data), dtype)


_CLASSES: tuple[Any, ...] = (
    *(rows.CandidateRow, rows.CandidateRows, params.SamplingParams, params.Dry),
    *(outputs.Outputs, outputs.OutputFlags, EngineFacts, _array),
    *(result.RowError, result.LogprobValues, result.Timing, result.SampleResult, result.VerifyResult),
    *(getattr(enums, name) for name in enums.__all__),
    *(frozenset,),
)
_KNOWN = {(own.__module__, own.__qualname__): own for own in _CLASSES}


class _Pickler(pickle.Pickler):
    dispatch_table: dict[type, Any] = {  # noqa: RUF012  # as pickle names and types it
        np.ndarray: lambda own: (_array, (own.tobytes(), own.dtype.str)),
        memoryview: lambda own: (bytes, (bytes(own),)),
        **{getattr(enums, name): (lambda own: (type(own), (int(own),))) for name in enums.__all__},
        outputs.OutputFlags: lambda own: (outputs.OutputFlags, (int(own),)),
    }


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Give a known class.

        Raises:
            UnpicklingError: it is none of those that messages are made of.

        """
        found = _KNOWN.get((module, name))
        if found is None and (module, name) == ("builtins", "bytes"):
            return bytes
        if found is None:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of a message")
        return found


def dumps(message: object) -> bytes:
    """Write a message."""
    buffer = io.BytesIO()
    _Pickler(buffer, 5).dump(message)
    return buffer.getvalue()


def loads(data: bytes | memoryview) -> Any:
    """Read what `dumps` has written.

    Raises:
        UnpicklingError: it holds what is no part of a message.

    """
    return _Unpickler(io.BytesIO(data)).load()


_ERRORS = {
    name: own for name, own in vars(errors).items() if isinstance(own, type) and issubclass(own, errors.SamplerdError)
}


def dump_error(error: errors.SamplerdError) -> tuple[str, str, dict[str, Any]]:
    """Give the parts of an error that its caller is told."""
    return type(error).__name__, str(error), dict(vars(error))


def load_error(parts: tuple[str, str, dict[str, Any]]) -> errors.SamplerdError:
    """Make the error again."""
    name, message, values = parts
    kind = _ERRORS[name]
    error = kind.__new__(kind, message)
    error.args = (message,)
    vars(error).update(values)
    return error
