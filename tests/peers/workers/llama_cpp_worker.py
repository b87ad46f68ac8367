"""llama.cpp: the samplers of its default chain (`common_sampler_init`), one after the other, through ctypes."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import llama_cpp as llama
import numpy as np
from protocol import serve, weights

ENTRY = np.dtype([("id", "<i4"), ("logit", "<f4"), ("p", "<f4")])
LIBRARY = ctypes.CDLL(str(Path(llama.__file__).parent / "lib" / "libllama.so"))
DRY = LIBRARY["_Z30llama_sampler_init_dry_testingffiiRKSt6vectorIS_IiSaIiEESaIS1_EE"]
"""The library's own entrance for tests: DRY with breakers as tokens, which need no vocabulary."""
DRY.restype = llama.llama_sampler_p_ctypes
DRY.argtypes = [ctypes.c_float, ctypes.c_float, ctypes.c_int32, ctypes.c_int32, ctypes.c_void_p]
KNOWN = {
    *("temperature", "top_k", "top_p", "min_p", "typical_p", "top_n_sigma", "xtc_threshold", "xtc_probability"),
    *("dynamic_temperature_range", "dynamic_temperature_exponent", "min_tokens_to_keep", "logit_bias", "history"),
    *("repetition_penalty", "frequency_penalty", "presence_penalty", "penalty_range", "dry"),
    *("adaptive_target", "adaptive_weighted_sum", "adaptive_total_weight", "defaults"),
}
DEFAULTS = {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05, "xtc_threshold": 0.1, "penalty_range": 64}
"""Of `common_params_sampling` (common/common.h:230), whose library the package does not have."""
DEFAULT_DRY_RANGE = 64
STATE = 16 + 624 * 8 + 8
"""Where adaptive-p keeps its state: behind target, decay, seed, current seed (4 bytes each) and a std::mt19937."""


class Vector(ctypes.Structure):
    """libstdc++'s std::vector: first, behind the last, end of storage."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("first", "last", "storage")]


def _vector(buffer: Any, size: int) -> Vector:
    start = ctypes.addressof(buffer)
    return Vector(start, start + size, start + size)


def dry(params: dict[str, Any], length: int) -> Any:
    """Make the DRY sampler with sequences of tokens as breakers."""
    own = {"multiplier": 0.0, "base": 1.75, "allowed_length": 2, "range": 0, "sequence_breakers": [], **params}
    breakers = [[token] if isinstance(token, int) else token for token in own["sequence_breakers"]]
    tokens = [(ctypes.c_int32 * len(breaker))(*breaker) for breaker in breakers]
    inner = (Vector * max(1, len(breakers)))(*(_vector(each, ctypes.sizeof(each)) for each in tokens))
    outer = _vector(inner, len(breakers) * ctypes.sizeof(Vector))
    looked_at = own["range"] or max(1, length)
    return DRY(own["multiplier"], own["base"], own["allowed_length"], looked_at, ctypes.addressof(outer))


def adaptive_p(params: dict[str, Any]) -> Any:
    """Make the adaptive-p sampler, with the state of a sequence that has begun."""
    sampler = llama.llama_sampler_init_adaptive_p(params["adaptive_target"], 0.9, 1)
    state = (ctypes.c_float * 2).from_address(sampler.contents.ctx + STATE)
    state[0], state[1] = params.get("adaptive_weighted_sum", 0.0), params.get("adaptive_total_weight", 0.0)
    return sampler


def chain(params: dict[str, Any], vocab_size: int) -> list[Any]:
    """Make the samplers, first to last, as `common_sampler_init` does."""
    least = params.get("min_tokens_to_keep", 0)
    history = params.get("history", [])
    own = []
    if "logit_bias" in params:
        pairs = [llama.llama_logit_bias(token=token, bias=bias) for token, bias in params["logit_bias"]]
        own.append(
            llama.llama_sampler_init_logit_bias(vocab_size, len(pairs), (llama.llama_logit_bias * len(pairs))(*pairs))
        )
    own.append(
        llama.llama_sampler_init_penalties(
            vocab_size,
            params.get("penalty_range", 0) or max(1, len(history)),
            params.get("repetition_penalty", 1.0),
            params.get("frequency_penalty", 0.0),
            params.get("presence_penalty", 0.0),
        )
    )
    if "dry" in params:
        own.append(dry(params["dry"], len(history)))
    for sampler in own:
        for token in history:
            llama.llama_sampler_accept(sampler, token)
    own.append(llama.llama_sampler_init_top_n_sigma(params.get("top_n_sigma", 0.0)))
    own.append(llama.llama_sampler_init_top_k(params.get("top_k", 0)))
    own.append(llama.llama_sampler_init_typical(params.get("typical_p", 1.0), least))
    own.append(llama.llama_sampler_init_top_p(params.get("top_p", 1.0), least))
    own.append(llama.llama_sampler_init_min_p(params.get("min_p", 0.0), least))
    own.append(
        llama.llama_sampler_init_xtc(
            params.get("xtc_probability", 0.0), params.get("xtc_threshold", 0.1), least, params.get("seed", 1)
        )
    )
    own.append(
        llama.llama_sampler_init_temp_ext(
            params.get("temperature", 1.0),
            params.get("dynamic_temperature_range", 0.0),
            params.get("dynamic_temperature_exponent", 1.0),
        )
    )
    if "adaptive_target" in params:
        own.append(adaptive_p(params))
    return own


def process(row: np.ndarray, params: dict[str, Any]) -> np.ndarray:
    """Run the chain on one row."""
    if params.pop("defaults", False):
        params = DEFAULTS | params
        if "dry" in params:
            params["dry"] = {"range": DEFAULT_DRY_RANGE, **params["dry"]}
    entries = np.zeros(len(row), ENTRY)
    entries["id"], entries["logit"] = np.arange(len(row)), row
    array = llama.llama_token_data_array(
        data=entries.ctypes.data_as(llama.llama_token_data_p), size=len(row), selected=-1, sorted=False
    )
    for sampler in chain(params, len(row)):
        llama.llama_sampler_apply(sampler, ctypes.byref(array))
        llama.llama_sampler_free(sampler)
    start = ctypes.addressof(array.data.contents)
    left = np.frombuffer((ctypes.c_char * (array.size * ENTRY.itemsize)).from_address(start), ENTRY)
    answer = np.zeros(len(row))
    answer[left["id"]] = weights(left["logit"])
    return answer


if __name__ == "__main__":
    serve(process, KNOWN)
