"""mlx-lm: its own `make_logits_processors` and `make_sampler`; only the last step, the draw, gives back its logits."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm import sample_utils
from protocol import serve, weights

sample_utils.categorical_sampling = lambda logits, temp: logits * (1.0 / temp)  # what it draws from
SAMPLER = {
    **{name: name for name in ("top_k", "top_p", "min_p", "min_tokens_to_keep", "xtc_probability", "xtc_threshold")},
    "temperature": "temp",
    "xtc_exempt_ids": "xtc_special_tokens",
}
PENALTIES = {"repetition_penalty", "frequency_penalty", "presence_penalty"}


def process(row: np.ndarray, params: dict[str, Any]) -> np.ndarray:
    """Run the processors and the sampler on one row, as `generate_step` does."""
    keeps_defaults = params.pop("defaults", False)
    history = params.get("history", [])
    looked_at = params.get("penalty_range", 0) or max(1, len(history))
    own: dict[str, Any] = {name: params[name] for name in PENALTIES if name in params}
    if not keeps_defaults:
        own |= {f"{name.split('_')[0]}_context_size": looked_at for name in PENALTIES}
    own["logit_bias"] = dict(map(tuple, params.get("logit_bias", [])))
    logits = mx.array(row)[None]
    for processor in sample_utils.make_logits_processors(**own):
        logits = processor(mx.array(history, mx.int32), logits)
    logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    settings = {SAMPLER[name]: value for name, value in params.items() if name in SAMPLER}
    sampler = sample_utils.make_sampler(**({} if keeps_defaults else {"temp": 1.0}) | settings)
    answer = np.array(sampler(logprobs))
    return weights(answer) if answer.size > 1 else np.eye(len(row))[int(answer.item())]  # greedy: the token alone


if __name__ == "__main__":
    mx.set_default_device(mx.cpu)
    mx.disable_compile()  # the same operations one by one: compiling would start a C++ compiler for every new number
    serve(process, {*SAMPLER, *PENALTIES, "logit_bias", "history", "penalty_range", "defaults"})
