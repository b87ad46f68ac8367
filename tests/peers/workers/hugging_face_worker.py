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
    **{name: name for name in ("repetition_penalty", "no_repeat_ngram_size", "top_h", "guidance_scale")},
    "bad_words": "bad_words_ids",
    "logit_bias": "sequence_bias",
}


class Output(dict):
    """What the model of a guidance row answers."""

    logits: torch.Tensor


class Model:
    """What `generate` asks of a model: its settings, and the logits of the unconditional row."""

    config = SimpleNamespace(is_encoder_decoder=False)
    row: list[float]

    def _merge_criteria_processor_list(self, own: Any, _custom: Any) -> Any:
        return own

    def __call__(self, _ids: torch.Tensor, **_settings: Any) -> Output:
        """Give the guidance row as the logits of one position."""
        output = Output()
        output.logits = torch.tensor([[self.row]])
        return output


def process(row: np.ndarray, params: dict[str, Any]) -> np.ndarray:
    """Run all processors on one row; with `defaults`, under all that `generate` does by default."""
    keeps_defaults = params.pop("defaults", False)
    model = Model()
    model.row = params.get("guidance_row", [])
    own = {NAMES[name]: value for name, value in params.items() if name in NAMES}
    if "sequence_bias" in own:
        own["sequence_bias"] = [[[token], float(value)] for token, value in own["sequence_bias"]]
    if keeps_defaults:
        is_greedy = own.get("temperature", 0.0) == 0.0  # a user who samples says so: here by a temperature
        own = {name: value for name, value in own.items() if not (is_greedy and name == "temperature")}
        config = GenerationConfig(**own, **({} if is_greedy else {"do_sample": True}))
        config.update(**GenerationConfig._get_default_generation_params(), defaults_only=True)
    else:
        config = GenerationConfig(do_sample=True, **own)
    config._eos_token_tensor = None
    history = torch.tensor([params.get("history", [])], dtype=torch.long)
    processors = GenerationMixin._get_logits_processor(
        model, config, input_ids_seq_length=history.shape[1], device="cpu", model_kwargs={}
    )
    scores = processors(history, torch.from_numpy(row)[None])
    return weights(scores.numpy()) if config.do_sample else np.eye(len(row))[int(scores.argmax())]


if __name__ == "__main__":
    torch.set_num_threads(1)
    serve(process, {*NAMES, "history", "guidance_row", "defaults"})
