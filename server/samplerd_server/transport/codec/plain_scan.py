"""The scan of a SampleRequest in Python: what `scan` finds, for processes that do without the compiler.

It takes some 10 us where the compiled one takes one; upb would copy a row twice, which takes longer from some KiB on.
The rules are those of `scan`.
"""

# ruff: noqa: PLR0912, PLR0915 -- one branch a field, as in `scan`

from __future__ import annotations

from samplerd_server.transport.codec.scanned import Scanned

__all__ = ["plain_scan"]

_MAX_TAGS = 4096
_VARINT, _LENGTH = 0, 2
_MAX_TAG_BYTES, _MAX_BYTES = 5, 10
_MAX_TAG = 0xFFFFFFFF
_MASK32, _SIGN32 = 0xFFFFFFFF, 1 << 31
# Fields of SampleRequest.
_ID, _PARAMS, _NUM_SAMPLES, _SEED, _REPLACEMENT, _KIND, _OUTPUTS, _DRAW_OFFSET, _PRIORITY = 1, 2, 3, 4, 5, 6, 7, 8, 9
_ROW_PARAMS, _ROW_SEEDS, _SHARED_MEMORY, _GUIDANCE, _TENSOR = 10, 11, 15, 16, 100
# Fields of Tensor.
_DTYPE, _ROWS, _VOCAB_SIZE, _DATA = 1, 2, 3, 4
_GAVE_UP = Scanned._make((False, False, False, *[0] * 22))
"""Nothing in it is valid."""


class _GiveUpError(Exception):
    pass


def plain_scan(message: bytes) -> Scanned:
    """Scan a message."""
    try:
        return _scan(message)
    except (_GiveUpError, IndexError):
        return _GAVE_UP


def _varint(message: bytes, at: int, end: int, most: int) -> tuple[int, int]:
    """Read a varint of at most so many bytes; returns its value and where it ends."""
    value = 0
    for shift in range(0, 7 * most, 7):
        if at >= end:
            break
        byte = message[at]
        at += 1
        if shift == 63 and byte > 1:  # the tenth byte holds the 64th bit
            break
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # the last byte of a varint
            return value, at
    raise _GiveUpError


def _next_field(message: bytes, at: int, end: int) -> tuple[int, int, int, int, int]:
    """Read a tag, and a number or a length; returns number, wire type, value, where the content begins and ends."""
    if at >= end:
        raise _GiveUpError
    tag = message[at]
    if tag < 0x80:  # the usual tag has one byte
        at += 1
    else:
        tag, at = _varint(message, at, end, _MAX_TAG_BYTES)
    number, wire_type = tag >> 3, tag & 7
    if number == 0 or tag > _MAX_TAG or at >= end:
        raise _GiveUpError
    value = message[at]
    if wire_type == _VARINT:
        if value < 0x80:  # as above
            at += 1
        else:
            value, at = _varint(message, at, end, _MAX_BYTES)
        return number, _VARINT, value, at, at
    if wire_type != _LENGTH:
        raise _GiveUpError
    if value < 0x80:  # as above
        at += 1
    else:
        value, at = _varint(message, at, end, _MAX_TAG_BYTES)
    if value > end - at:
        raise _GiveUpError
    return number, _LENGTH, value, at, at + value


def _signed32(value: int) -> int:
    value &= _MASK32
    return value - (1 << 32) if value & _SIGN32 else value


def _scan(message: bytes) -> Scanned:
    length = len(message)
    own_id = seed = draw_offset = num_samples = replacement = kind = priority = 0
    has_seed = is_shared = False
    is_simple = True
    params_at = params_end = outputs_at = outputs_end = 0
    guidance_tag = guidance_at = guidance_end = 0
    source_tag = source_at = source_end = 0
    dtype = rows = vocab_size = data_at = data_end = 0
    at = turn = 0
    while at != length:
        if turn == _MAX_TAGS:
            raise _GiveUpError
        turn += 1
        number, wire_type, value, begin, end = _next_field(message, at, length)
        if wire_type == _VARINT:
            if number == _ID:
                own_id = value
            elif number == _NUM_SAMPLES:
                num_samples = value & _MASK32
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
                raise _GiveUpError
        elif number == _PARAMS and params_at == 0:
            params_at, params_end = begin, end
        elif number == _OUTPUTS and outputs_at == 0:
            outputs_at, outputs_end = begin, end
        elif number == _GUIDANCE and guidance_at == 0:
            is_simple = False
            guidance_tag, guidance_at, guidance_end = at, begin, end
        elif number in {_TENSOR, _SHARED_MEMORY} and source_at == 0:
            is_shared = number == _SHARED_MEMORY
            source_tag, source_at, source_end = at, begin, end
        elif number in {_ROW_PARAMS, _ROW_SEEDS}:
            is_simple = False
        else:
            raise _GiveUpError
        at = end
    if source_at == 0:
        raise _GiveUpError
    at, turn = source_at, 0
    if is_shared:
        at, data_at, data_end = source_end, source_at, source_end
    while at != source_end:
        if turn == _MAX_TAGS:
            raise _GiveUpError
        turn += 1
        number, wire_type, value, begin, end = _next_field(message, at, source_end)
        if wire_type == _VARINT and number == _DTYPE:
            dtype = _signed32(value)
        elif wire_type == _VARINT and number == _ROWS:
            rows = value & _MASK32
        elif wire_type == _VARINT and number == _VOCAB_SIZE:
            vocab_size = value & _MASK32
        elif wire_type == _LENGTH and number == _DATA and data_at == 0:
            data_at, data_end = begin, end
        else:
            raise _GiveUpError
        at = end
    if data_at == 0:
        raise _GiveUpError
    # fmt: off
    found = (
        True, is_simple, is_shared, own_id, num_samples, has_seed, seed, replacement, kind, draw_offset, priority,
        params_at, params_end, outputs_at, outputs_end, guidance_tag, guidance_at, guidance_end, source_tag, source_end,
        dtype, rows, vocab_size, data_at, data_end,
    )
    # fmt: on
    # `Scanned(*...)` would take ten times as long.
    return tuple.__new__(Scanned, found)
