"""Reads the fields of a SampleRequest without making objects of them, and its tensor without copying it.

upb copies a bytes field twice: into its arena, and out of it at each access. For a row of 512 KiB that is most of the
server's work beside drawing; for a row of 4 KiB, most is the dozen objects and look-ups of the fields around it. So one
compiled loop over the tags reads the usual message: a tensor (or where one lies in shared memory) and a few scalars.
The bytes of the tensor stay where they are; of nested messages it finds the begin and the end.

Rule 1: the scan never refuses a message. For any that it does not know (another source, a message twice, a group, a bad
length) it gives up, and upb parses the whole message. Rule 2: it looks at tags only, so its time does not grow with the
message.
Source: the encoding guide of Protocol Buffers.
"""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: PLR0912, PLR0915, PLR1714, SIM109 -- one branch a field; no sets in compiled code

from __future__ import annotations

import numpy as np

from samplerd_server.sampling.kernels.compile import jit, short_kernel
from samplerd_server.transport.codec.scanned import Scanned

__all__ = ["scan"]

_U64 = np.uint64
_ZERO = np.uint64(0)
_MAX_TAGS = 4096
"""The scan gives up beyond this many fields at the top, such as unpacked row_seeds."""
_VARINT, _LENGTH = 0, 2
_MAX_TAG_BYTES, _MAX_BYTES = 5, 10
"""The most bytes of a tag or a length, and of a number: upb refuses longer ones, though they may mean the same."""
# Fields of SampleRequest.
_ID, _PARAMS, _NUM_SAMPLES, _SEED, _REPLACEMENT, _KIND, _OUTPUTS, _DRAW_OFFSET, _PRIORITY = 1, 2, 3, 4, 5, 6, 7, 8, 9
_ROW_PARAMS, _ROW_SEEDS, _SHARED_MEMORY, _GUIDANCE, _TENSOR = 10, 11, 15, 16, 100
# Fields of Tensor.
_DTYPE, _ROWS, _VOCAB_SIZE, _DATA = 1, 2, 3, 4


@jit
def _varint(message, at, end, most):
    """Read a varint of at most so many bytes; returns its value, where it ends, and whether it is one."""
    value = _ZERO
    for i in range(most):
        if at + i >= end:
            break
        byte = message[at + i]
        if i == 9 and byte > 1:
            break
        value |= _U64(byte & 0x7F) << _U64(7 * i)
        if byte < 0x80:
            return value, at + i + 1, True
    return _ZERO, at, False


@jit
def _low32(value):
    return np.int64(value & _U64(0xFFFFFFFF))


@jit
def _signed32(value):
    return np.int64(np.int32(np.uint32(value & _U64(0xFFFFFFFF))))


@jit
def _next_field(message, at, end):
    """Read a tag, and a number or a length; returns number, wire type, value, where the content begins and ends.

    Field number 0 means that the scan does not know these bytes.
    """
    tag, at, is_good = _varint(message, at, end, _MAX_TAG_BYTES)
    number, wire_type = np.int64(tag >> _U64(3)), np.int64(tag & _U64(7))
    if not is_good or number == 0 or tag > _U64(0xFFFFFFFF):
        return 0, 0, _ZERO, 0, 0
    value, begin = _ZERO, at
    if wire_type == _VARINT or wire_type == _LENGTH:
        value, begin, is_good = _varint(message, at, end, _MAX_TAG_BYTES if wire_type == _LENGTH else _MAX_BYTES)
        if not is_good or (wire_type == _LENGTH and value > _U64(end - begin)):
            return 0, 0, _ZERO, 0, 0
        return number, wire_type, value, begin, begin + np.int64(value) if wire_type == _LENGTH else begin
    return 0, 0, _ZERO, 0, 0


@short_kernel
def _scan(message, length):
    """Scan a message; returns the fields of `Scanned`."""
    own_id = seed = draw_offset = _ZERO
    num_samples = replacement = kind = priority = 0
    has_seed = False
    is_simple, is_shared = True, False
    params_at = params_end = outputs_at = outputs_end = 0
    guidance_tag = guidance_at = guidance_end = 0
    source_tag = source_at = source_end = 0
    dtype = rows = vocab_size = data_at = data_end = 0
    is_good = True
    at = 0
    for turn in range(_MAX_TAGS + 1):
        if at == length:
            break
        number, wire_type, value, begin, end = _next_field(message, at, length)
        if number == 0 or turn == _MAX_TAGS:
            is_good = False
            break
        if wire_type == _VARINT:
            if number == _ID:
                own_id = value
            elif number == _NUM_SAMPLES:
                num_samples = _low32(value)
            elif number == _SEED:
                has_seed, seed = True, value
            elif number == _REPLACEMENT:
                replacement = _signed32(value)
            elif number == _KIND:
                kind = _signed32(value)
            elif number == _DRAW_OFFSET:
                draw_offset = value
            elif number == _PRIORITY:
                priority = _signed32(value)
            elif number == _ROW_SEEDS:
                is_simple = False
            else:
                is_good = False
                break
        elif number == _PARAMS and params_at == 0:
            params_at, params_end = begin, end
        elif number == _OUTPUTS and outputs_at == 0:
            outputs_at, outputs_end = begin, end
        elif number == _GUIDANCE and guidance_at == 0:
            is_simple = False
            guidance_tag, guidance_at, guidance_end = at, begin, end
        elif (number == _TENSOR or number == _SHARED_MEMORY) and source_at == 0:
            is_shared = number == _SHARED_MEMORY
            source_tag, source_at, source_end = at, begin, end
        elif number == _ROW_PARAMS or number == _ROW_SEEDS:
            is_simple = False
        else:
            is_good = False
            break
        at = end
    if source_at == 0:
        is_good = False
    at = source_at
    if is_shared:
        at, data_at, data_end = source_end, source_at, source_end
    for turn in range(_MAX_TAGS + 1):
        if at == source_end or not is_good:
            break
        number, wire_type, value, begin, end = _next_field(message, at, source_end)
        if number == 0 or turn == _MAX_TAGS:
            is_good = False
        elif wire_type == _VARINT and number == _DTYPE:
            dtype = _signed32(value)
        elif wire_type == _VARINT and number == _ROWS:
            rows = _low32(value)
        elif wire_type == _VARINT and number == _VOCAB_SIZE:
            vocab_size = _low32(value)
        elif wire_type == _LENGTH and number == _DATA and data_at == 0:
            data_at, data_end = begin, end
        else:
            is_good = False
        at = end
    if data_at == 0:
        is_good = False
    # fmt: off
    return (
        is_good, is_simple, is_shared, own_id, num_samples, has_seed, seed, replacement, kind, draw_offset, priority,
        params_at, params_end, outputs_at, outputs_end, guidance_tag, guidance_at, guidance_end, source_tag, source_end,
        dtype, rows, vocab_size, data_at, data_end,
    )
    # fmt: on


def scan(message: bytes) -> Scanned:
    """Scan a message."""
    # `Scanned(*...)` would take ten times as long.
    return tuple.__new__(Scanned, _scan(message, len(message)))
