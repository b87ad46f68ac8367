"""transformers: the processors that `generate` itself would make for these settings, in its order."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from protocol import serve, weights
from transformers import GenerationConfig
from transformers.generation.utils import GenerationMixin

NAMES = {
    **{name: name for name in ("temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")},
    **{name: name for name in ("repetition_penalty", "no_repeat_ngram_size", "top_h")},
    "bad_words": "bad_words_ids",
    "logit_bias": "sequence_bias",
}
MODEL = SimpleNamespace(
    config=SimpleNamespace(is_encoder_decoder=False),
    _merge_criteria_processor_list=lambda own, _custom: own,
)


def process(row: np.ndarray, params: dict[str, Any]) -> np.ndarray:
    """Run all processors on one row."""
    own = {NAMES[name]: value for name, value in params.items() if name in NAMES}
    if "sequence_bias" in own:
        own["sequence_bias"] = [[[token], float(value)] for token, value in own["sequence_bias"]]
    config = GenerationConfig(do_sample=True, **own)
    config._eos_token_tensor = None
    history = torch.tensor([params.get("history", [])], dtype=torch.long)
    processors = GenerationMixin._get_logits_processor(
        MODEL, config, input_ids_seq_length=history.shape[1], device="cpu", model_kwargs={}
    )
    return weights(processors(history, torch.from_numpy(row)[None]).numpy())


if __name__ == "__main__":
    torch.set_num_threads(1)
    serve(process, {*NAMES, "history"})
