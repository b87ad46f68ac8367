"""The arrow ``pb.SamplingParams -> SamplingParams``: checks ranges, fills defaults, decides what is plain."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from samplerd_server.core.entity import entity
from samplerd_server.core.enums import Order
from samplerd_server.core.errors import InvalidRequestError, NotImplementedFieldError
from samplerd_server.core.params import Dry, SamplingParams

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from samplerd.v1 import sampler_pb2 as pb

__all__ = ["DEFAULT_PARAMS", "ParamsContext", "decode_ids", "decode_params"]

DEFAULT_PARAMS = SamplingParams()
_ORDERS = {0: Order.HUGGING_FACE} | {int(order): order for order in Order}
_BASICS = frozenset({"temperature"})

_plain_by_temperature: dict[float, SamplingParams] = {}
_MAX_REMEMBERED = 1024
"""Plain parameters are remembered by temperature, so that the usual request costs one look-up; bounded, since clients
choose the temperatures."""


@entity
class ParamsContext:
    """What the checks depend on beside the message."""

    vocab_size: int
    max_tokens: int
    """limits.max_tokens_per_row."""
    capabilities: frozenset[str]
    """What the sampler can do."""


def decode_params(message: pb.SamplingParams, path: str, context: ParamsContext) -> SamplingParams:
    """Check the parameters of a row.

    Args:
        message: as received.
        path: where it stands in the request, for errors: ``params``, ``row_params[3]``.
        context: vocabulary size and limits.

    Raises:
        InvalidRequestError: a value is out of range or contradicts another.
        NotImplementedFieldError: a field is set that the sampler cannot honour.

    """
    names = {field.name for field, _ in message.ListFields()}
    temperature = 1.0
    if "temperature" in names:
        temperature = message.temperature
        remembered = _plain_by_temperature.get(temperature)
        if remembered is not None and len(names) == 1:
            return remembered
        if not (math.isfinite(temperature) and temperature >= 0.0):
            raise InvalidRequestError(f"{path}.temperature", f"{temperature} is not a finite number >= 0")
    if names <= _BASICS:
        params = SamplingParams(temperature=temperature)
        if len(_plain_by_temperature) < _MAX_REMEMBERED:
            _plain_by_temperature[temperature] = params
        return params
    return _decode_all(message, names, path, context)


def _decode_all(
    message: pb.SamplingParams, names: Collection[str], path: str, context: ParamsContext
) -> SamplingParams:
    for name in names:
        if name not in _BASICS and f"SamplingParams.{name}" not in context.capabilities:
            raise NotImplementedFieldError(f"{path}.{name}")

    def number(
        name: str, default: float, low: float, high: float, *, open_low: bool = False, open_high: bool = False
    ) -> float:
        if name not in names:
            return default
        value: float = getattr(message, name)
        is_above = value > low if open_low else value >= low
        is_below = value < high if open_high else value <= high
        if not (is_above and is_below and math.isfinite(value)):
            interval = f"{'(' if open_low else '['}{low}, {high}{')' if open_high else ']'}"
            raise InvalidRequestError(f"{path}.{name}", f"{value} is not in {interval}")
        return value

    infinity = math.inf
    temperature = number("temperature", 1.0, 0.0, infinity, open_high=True)
    order = _ORDERS.get(int(message.order))
    if order is None:
        raise InvalidRequestError(f"{path}.order", f"{int(message.order)} is not a known Order")
    if message.allowed_tokens and message.token_bitmask:
        raise InvalidRequestError(f"{path}.token_bitmask", "not together with allowed_tokens")
    bias_ids, bias_values = _decode_bias(message, path, context)
    return SamplingParams(
        is_plain=False,
        temperature=temperature,
        # Beyond V it keeps all; clamped so that it fits the record's int32.
        top_k=min(message.top_k, context.vocab_size),
        top_p=number("top_p", 1.0, 0.0, 1.0, open_low=True),
        min_p=number("min_p", 0.0, 0.0, 1.0),
        typical_p=number("typical_p", 1.0, 0.0, 1.0, open_low=True),
        epsilon_cutoff=number("epsilon_cutoff", 0.0, 0.0, 1.0, open_high=True),
        eta_cutoff=number("eta_cutoff", 0.0, 0.0, 1.0, open_high=True),
        top_n_sigma=number("top_n_sigma", 0.0, 0.0, infinity, open_high=True),
        xtc_threshold=number("xtc_threshold", 0.0, 0.0, 1.0),
        xtc_probability=number("xtc_probability", 0.0, 0.0, 1.0),
        dynamic_temperature_range=number("dynamic_temperature_range", 0.0, 0.0, temperature),
        dynamic_temperature_exponent=number(
            "dynamic_temperature_exponent", 1.0, 0.0, infinity, open_low=True, open_high=True
        ),
        repetition_penalty=number("repetition_penalty", 1.0, 0.0, infinity, open_low=True, open_high=True),
        frequency_penalty=number("frequency_penalty", 0.0, -infinity, infinity, open_low=True, open_high=True),
        presence_penalty=number("presence_penalty", 0.0, -infinity, infinity, open_low=True, open_high=True),
        dry=_decode_dry(message, path, context) if "dry" in names else None,
        history=decode_ids(message.history, f"{path}.history", context),
        bias_ids=bias_ids,
        bias_values=bias_values,
        allowed_tokens=decode_ids(message.allowed_tokens, f"{path}.allowed_tokens", context),
        token_bitmask=_decode_bitmask(message.token_bitmask, path, context),
        min_tokens_to_keep=min(max(1, message.min_tokens_to_keep), context.vocab_size),
        order=order,
    )


def decode_ids(
    values: Sequence[int], path: str, context: ParamsContext, *, member: str = ""
) -> NDArray[np.int32] | None:
    """Check a list of ids: each within [0, V), at most limits.max_tokens_per_row of them; None for an empty one.

    Args:
        values: the ids.
        path: where the list stands in the request, for errors.
        context: vocabulary size and limits.
        member: where the id stands within an entry of the list: ``.id``, or nothing if the entry is the id.

    Raises:
        InvalidRequestError: too many, or one out of range.

    """
    if not values:
        return None
    if len(values) > context.max_tokens:
        raise InvalidRequestError(path, f"{len(values)} ids are more than the limit of {context.max_tokens}")
    ids = np.array(values, np.int32)
    outside = (ids < 0) | (ids >= context.vocab_size)
    if outside.any():
        at = int(outside.argmax())
        raise InvalidRequestError(f"{path}[{at}]{member}", f"{ids[at]} is not in [0, {context.vocab_size})")
    return ids


def _decode_bias(
    message: pb.SamplingParams, path: str, context: ParamsContext
) -> tuple[NDArray[np.int32] | None, NDArray[np.float32] | None]:
    entries = message.logit_bias
    ids = decode_ids([entry.id for entry in entries], f"{path}.logit_bias", context, member=".id")
    if ids is None:
        return None, None
    values = np.array([entry.bias for entry in entries], np.float32)
    bad = np.isnan(values) | (values == np.inf)
    if bad.any():
        at = int(bad.argmax())
        raise InvalidRequestError(f"{path}.logit_bias[{at}].bias", f"{values[at]} is NaN or +inf")
    if len(np.unique(ids)) != len(ids):
        raise InvalidRequestError(f"{path}.logit_bias", "the ids are not distinct")
    return ids, values


def _decode_dry(message: pb.SamplingParams, path: str, context: ParamsContext) -> Dry | None:
    dry = message.dry
    if not (math.isfinite(dry.multiplier) and dry.multiplier >= 0.0):
        raise InvalidRequestError(f"{path}.dry.multiplier", f"{dry.multiplier} is not a finite number >= 0")
    if dry.base != 0.0 and not (math.isfinite(dry.base) and dry.base >= 1.0):
        raise InvalidRequestError(f"{path}.dry.base", f"{dry.base} is not a finite number >= 1")
    breakers = decode_ids(dry.sequence_breakers, f"{path}.dry.sequence_breakers", context)
    if dry.multiplier == 0.0:
        return None
    most = 2**31 - 1
    return Dry(
        multiplier=dry.multiplier,
        base=dry.base or 1.75,
        allowed_length=min(dry.allowed_length or 2, most),
        range=min(dry.range, most),
        sequence_breakers=breakers,
    )


def _decode_bitmask(mask: bytes, path: str, context: ParamsContext) -> bytes | None:
    if not mask:
        return None
    words = -(-context.vocab_size // 32)
    if len(mask) % 4 or len(mask) > 4 * words:
        raise InvalidRequestError(
            f"{path}.token_bitmask",
            f"{len(mask)} bytes are not a multiple of 4, at most {4 * words} for V = {context.vocab_size}",
        )
    return mask
