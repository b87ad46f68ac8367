"""`SamplingParams.like` of a system: what the reference draws from under it, and all parameters with the defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from samplerd_client import Dry, SamplingParams
from samplerd_server.transport.codec.decode_ids import ParamsContext
from samplerd_server.transport.codec.decode_params import decode_params
from tests.peers.model import sample

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from samplerd_client.systems import System as Name
    from tests.peers.systems import System

__all__ = ["filled_in", "under_preset"]


def _dry(value: dict[str, Any]) -> Dry:
    breakers = value["sequence_breakers"]
    return Dry(
        multiplier=value["multiplier"],
        base=value["base"],
        allowed_length=value["allowed_length"],
        sequence_breakers=[own for own in breakers if isinstance(own, int)],
        breaker_sequences=[own for own in breakers if isinstance(own, list)],
        allow_no_repeat=value["allowed_length"] == 0,
    )


_CONVERT: dict[str, Callable[[Any], Any]] = {"dry": _dry, "logit_bias": lambda pairs: dict(map(tuple, pairs))}


def under_preset(row: NDArray[np.float32], drawn: dict[str, Any], system: System) -> NDArray[np.float64]:
    """Ask the reference for what a user draws from who sets these parameters in `like`: float64[V], 0 = dropped."""
    own = {name: _CONVERT[name](value) if name in _CONVERT else value for name, value in drawn.items()}
    row_of_guidance = own.pop("guidance_row", None)
    context = ParamsContext(
        vocab_size=len(row),
        max_tokens=10_000,
        capabilities=frozenset(f"SamplingParams.{name}" for name in SamplingParams.__dataclass_fields__),
        has_guidance=row_of_guidance is not None,
    )
    preset = SamplingParams.like(cast("Name", system.name), **cast("Any", own))
    return sample(row, decode_params(preset.to_proto(), "params", context), row_of_guidance)


def filled_in(drawn: dict[str, Any], system: System) -> dict[str, Any]:
    """Put the parameters on top of the system's own defaults, as its table has them."""
    full: dict[str, Any] = {**system.defaults, **drawn}
    if "xtc_probability" not in full:
        full.pop("xtc_threshold", None)
    if system.range and "history" in full:
        full.setdefault("penalty_range", system.range)
    if system.dry_range and "dry" in full:
        full["dry"] = {"range": system.dry_range, **full["dry"]}
    temperature = full.get("temperature", 1.0)
    if temperature == 0 or temperature < system.greedy_below:
        full |= {"temperature": 1.0, "top_k": 1}  # the argmax, without a division by 0
    elif temperature < system.lowest_temperature:
        full["temperature"] = system.lowest_temperature
    return full
