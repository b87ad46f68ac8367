"""What is compared: one row of `CASES` is one case, held for every system that has all of its parameters.

A case names parameters; `draw` gives each a value, from a generator with a stated seed. Values are numbers, lists and
dicts, as JSON has them: workers take them as they are, and `parameters` makes samplerd's of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from samplerd_server.core.enums import Order, PenaltyScope
from samplerd_server.core.params import Dry, SamplingParams
from tests.support.samplers import params

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.peers.systems import System

__all__ = ["CASES", "ORDERS", "Case", "cases", "draw", "parameters"]

ORDERS = {"hugging_face": Order.HUGGING_FACE, "vllm": Order.VLLM, "llama.cpp": Order.LLAMA_CPP, "sglang": Order.JOINT}
"""The order of samplerd that is the system's; a system that is not here has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case."""

    names: tuple[str, ...]
    """Parameters that are set."""

    @property
    def title(self) -> str:
        """The parameters, in one word."""
        return "+".join(self.names)


CASES: tuple[Case, ...] = tuple(
    Case(names=names)
    for names in (
        ("temperature",),
        ("top_k",),
        ("top_p",),
        ("min_p",),
        ("typical_p",),
        ("epsilon_cutoff",),
        ("eta_cutoff",),
        ("top_n_sigma",),
        ("top_h",),
        ("temperature", "top_h"),
        ("temperature", "top_h", "top_k", "top_p"),
        ("xtc",),
        ("xtc_off",),
        ("xtc_exempt",),
        ("guidance",),
        ("guidance", "repetition_penalty", "top_p"),
        ("logit_bias",),
        ("repetition_penalty",),
        ("frequency_penalty", "presence_penalty"),
        ("repetition_penalty", "frequency_penalty", "presence_penalty"),
        ("penalty_range", "repetition_penalty", "frequency_penalty"),
        ("dry",),
        ("dry_breakers",),
        ("dry_no_repeat",),
        ("dry", "repetition_penalty", "temperature"),
        ("no_repeat_ngram_size",),
        ("bad_words",),
        ("bad_words", "repetition_penalty", "top_p"),
        ("allowed_tokens", "top_k"),
        ("logit_bias", "repetition_penalty"),
        ("temperature", "dynamic_temperature"),
        ("temperature", "dynamic_temperature", "top_k"),
        ("temperature", "top_k"),
        ("temperature", "top_p"),
        ("temperature", "min_p"),
        ("temperature", "typical_p"),
        ("temperature", "epsilon_cutoff"),
        ("temperature", "eta_cutoff"),
        ("temperature", "xtc"),
        ("top_k", "top_p"),
        ("top_p", "min_p"),
        ("top_n_sigma", "top_p"),
        ("top_k", "xtc"),
        ("temperature", "top_k", "top_p", "min_p"),
        ("temperature", "top_k", "top_p", "typical_p"),
        ("temperature", "top_k", "top_p", "epsilon_cutoff"),
        ("temperature", "top_n_sigma", "top_k", "top_p", "min_p"),
        ("temperature", "top_k", "typical_p", "top_p", "min_p", "xtc"),
        ("adaptive_p",),
        ("adaptive_p", "top_k"),
        ("adaptive_p", "temperature", "top_k", "top_p", "min_p"),
        ("logit_bias", "repetition_penalty", "frequency_penalty", "presence_penalty", "temperature", "top_k", "top_p"),
    )
)

_STEPS = {"xtc_off": "xtc", "dry_breakers": "dry", "dry_no_repeat": "dry", "penalty_range": ""}


def cases(system: System) -> tuple[Case, ...]:
    """Those whose parameters the system has all of."""
    steps = {*system.steps, *(("top_k", "top_p") if "joint" in system.steps else ()), ""}
    if system.name == "llama.cpp":
        steps |= {"dynamic_temperature"}
    if system.name == "mlx-lm":
        steps |= {"xtc_exempt"}
    if system.range == 0:
        steps.remove("")  # it has no penalty_range
    return tuple(case for case in CASES if {_STEPS.get(name, name) for name in case.names} <= steps)


def _tokens(rng: np.random.Generator, vocab_size: int, count: int) -> list[int]:
    return rng.integers(0, vocab_size, count).tolist()


def _history(rng: np.random.Generator, vocab_size: int) -> dict[str, Any]:
    """Some of the vocabulary, so that tokens and sequences of them recur."""
    few = min(vocab_size, int(rng.integers(2, 7)))
    history = rng.choice(vocab_size, few, replace=False)[rng.integers(0, few, int(rng.integers(4, 40)))]
    return {"history": history.tolist(), "prompt_length": int(rng.integers(0, len(history)))}


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _dry(rng: np.random.Generator, vocab_size: int, breakers: list[Any]) -> dict[str, Any]:
    dry = {
        "multiplier": float(rng.uniform(0.2, 2)),
        "base": float(rng.uniform(1, 2.5)),
        "allowed_length": int(rng.integers(1, 4)),
        "sequence_breakers": breakers,
    }
    return {"dry": dry, **_history(rng, vocab_size)}


def _bad_words(rng: np.random.Generator, vocab_size: int) -> dict[str, Any]:
    """One word of a single token, and words that the history has begun, some of them one token further than it."""
    drawn = _history(rng, vocab_size)
    history = drawn["history"]
    words = [_tokens(rng, vocab_size, 1)]
    for length in (1, 2, 3):
        words.append([*history[-length:], *_tokens(rng, vocab_size, 1)])
        words.append([*_tokens(rng, vocab_size, length), *_tokens(rng, vocab_size, 1)])
    return {"bad_words": words[: min(len(words), vocab_size - 1)], **drawn}


def _dry_no_repeat(rng: np.random.Generator, vocab_size: int) -> dict[str, Any]:
    drawn = _dry_breakers(rng, vocab_size)
    drawn["dry"]["allowed_length"] = 0
    return drawn


def _dry_breakers(rng: np.random.Generator, vocab_size: int) -> dict[str, Any]:
    """Breakers of one token, and of two and three that the history has somewhere."""
    drawn = _dry(rng, vocab_size, _tokens(rng, vocab_size, 1))
    history = drawn["history"]
    at = int(rng.integers(0, len(history) - 3))
    drawn["dry"]["sequence_breakers"] += [history[at : at + 2], history[at + 1 : at + 4]]
    return drawn


_VALUES: dict[str, Callable[[np.random.Generator, int], dict[str, Any]]] = {
    "temperature": lambda rng, _: {"temperature": _log_uniform(rng, 0.1, 2)},
    "top_k": lambda rng, size: {"top_k": int(rng.integers(1, size))},
    "top_p": lambda rng, _: {"top_p": float(rng.uniform(0.02, 0.999))},
    "min_p": lambda rng, _: {"min_p": _log_uniform(rng, 1e-4, 0.9)},
    "typical_p": lambda rng, _: {"typical_p": float(rng.uniform(0.02, 0.999))},
    "epsilon_cutoff": lambda rng, _: {"epsilon_cutoff": _log_uniform(rng, 1e-6, 0.3)},
    "eta_cutoff": lambda rng, _: {"eta_cutoff": _log_uniform(rng, 1e-6, 0.3)},
    "top_h": lambda rng, _: {"top_h": float(rng.uniform(0.05, 0.99))},
    "top_n_sigma": lambda rng, _: {"top_n_sigma": float(rng.uniform(0.1, 3))},
    "xtc": lambda rng, _: {"xtc_threshold": _log_uniform(rng, 1e-3, 0.5), "xtc_probability": 1.0},
    "xtc_exempt": lambda rng, size: {
        "xtc_threshold": _log_uniform(rng, 1e-3, 0.3),
        "xtc_probability": 1.0,
        "xtc_exempt_ids": np.unique(rng.integers(0, size, 3)).tolist(),
    },
    "xtc_off": lambda rng, _: {"xtc_threshold": _log_uniform(rng, 1e-3, 0.5), "xtc_probability": 0.0},
    "guidance": lambda rng, size: {
        "guidance_scale": float(rng.uniform(-1, 4)),
        "guidance_row": rng.normal(scale=1.5, size=size).astype(np.float32).tolist(),
    },
    "logit_bias": lambda rng, size: {
        "logit_bias": [[token, float(rng.normal(scale=3))] for token in {*_tokens(rng, size, 4)}]
    },
    "repetition_penalty": lambda rng, size: {"repetition_penalty": _log_uniform(rng, 0.6, 1.9), **_history(rng, size)},
    "frequency_penalty": lambda rng, size: {"frequency_penalty": float(rng.uniform(-1, 2)), **_history(rng, size)},
    "presence_penalty": lambda rng, size: {"presence_penalty": float(rng.uniform(-1, 2)), **_history(rng, size)},
    "penalty_range": lambda rng, _: {"penalty_range": int(rng.integers(1, 12))},
    "dry": lambda rng, size: _dry(rng, size, []),
    "dry_breakers": _dry_breakers,
    "dry_no_repeat": _dry_no_repeat,
    "no_repeat_ngram_size": lambda rng, size: {
        "no_repeat_ngram_size": int(rng.integers(2, 4)),
        **_history(rng, size),
    },
    "bad_words": _bad_words,
    "allowed_tokens": lambda rng, size: {
        "allowed_tokens": np.sort(rng.choice(size, size // 2 + 1, replace=False)).tolist()
    },
    "adaptive_p": lambda rng, _: _adaptive_p(rng),
    "dynamic_temperature": lambda rng, _: {
        "dynamic_temperature_range": float(rng.uniform(0.01, 0.09)),
        "dynamic_temperature_exponent": float(rng.uniform(0.5, 2)),
    },
}


def _adaptive_p(rng: np.random.Generator) -> dict[str, Any]:
    """A target, and the state of a sequence that has just begun, or has drawn some tokens."""
    weight = float(rng.choice([0.0, rng.uniform(0.5, 20)]))
    return {
        "adaptive_target": float(rng.uniform(0.02, 0.98)),
        "adaptive_weighted_sum": weight * float(rng.uniform()),
        "adaptive_total_weight": weight,
    }


def draw(case: Case, rng: np.random.Generator, vocab_size: int, system: System) -> dict[str, Any]:
    """Give every parameter of a case a value; the history is that of the first parameter that needs one."""
    drawn: dict[str, Any] = {}
    for name in case.names:
        drawn = _VALUES[name](rng, vocab_size) | drawn
    if "output" not in system.scopes.values():
        drawn.pop("prompt_length", None)
    return drawn


def _sequences(words: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([token for word in words for token in word], np.int32), np.cumsum(
        [*map(len, words)], dtype=np.int32
    )


def _dry_parameters(value: dict[str, Any]) -> Dry:
    breakers = value["sequence_breakers"]
    ids, ends = _sequences([own for own in breakers if isinstance(own, list)])
    single = np.array([own for own in breakers if isinstance(own, int)], np.int32)
    sequences = {"breaker_sequences_ids": ids, "breaker_sequences_ends": ends} if len(ends) else {}
    zero = {"allow_no_repeat": value["allowed_length"] == 0}
    return Dry(**{**value, **zero, "sequence_breakers": single, **sequences})


_CONVERT: dict[str, Callable[[Any], dict[str, Any]]] = {
    "guidance_row": lambda _: {},  # a field of the request
    "history": lambda value: {"history": np.array(value, np.int32)},
    "xtc_exempt_ids": lambda value: {"xtc_exempt_ids": np.array(value, np.int32)},
    "allowed_tokens": lambda value: {"allowed_tokens": np.array(value, np.int32)},
    "logit_bias": lambda value: {
        "bias_ids": np.array([token for token, _ in value], np.int32),
        "bias_values": np.array([bias for _, bias in value], np.float32),
    },
    "bad_words": lambda value: dict(zip(("bad_words_ids", "bad_words_ends"), _sequences(value), strict=True)),
    "dry": lambda value: {"dry": _dry_parameters(value)},
}
_SCOPES = {
    "repetition_penalty": "repetition_scope",
    "frequency_penalty": "frequency_scope",
    "presence_penalty": "presence_scope",
    "bad_words": "bad_words_scope",
}


def parameters(drawn: dict[str, Any], system: System, order: Order) -> SamplingParams:
    """Make samplerd's parameters of a case's, with the scopes of the system."""
    fields: dict[str, Any] = {"order": order}
    for name, value in drawn.items():
        fields |= _CONVERT[name](value) if name in _CONVERT else {name: value}
    for penalty, scope in system.scopes.items():
        if penalty in _SCOPES:
            fields[_SCOPES[penalty]] = PenaltyScope[scope.upper()]
    return params(**fields)
