"""vLLM: its whole `Sampler.forward` on torch, which gives what it draws from as processed_logprobs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import vllm.utils.torch_utils
from protocol import serve, weights

vllm.utils.torch_utils.PIN_MEMORY = False  # there is no device to pin for; modules below take it when imported
from vllm import SamplingParams  # noqa: E402
from vllm.triton_utils import HAS_TRITON  # noqa: E402
from vllm.v1.sample.logits_processor import LogitsProcessors  # noqa: E402
from vllm.v1.sample.logits_processor.builtin import LogitBiasLogitsProcessor, MinPLogitsProcessor  # noqa: E402
from vllm.v1.sample.logits_processor.interface import BatchUpdate  # noqa: E402
from vllm.v1.sample.metadata import SamplingMetadata  # noqa: E402
from vllm.v1.sample.sampler import Sampler  # noqa: E402

assert not HAS_TRITON  # what is held here are its torch functions; its kernels need a device
CPU = torch.device("cpu")
CONFIG = SimpleNamespace(scheduler_config=SimpleNamespace(max_num_seqs=1))
SAMPLER = Sampler(logprobs_mode="processed_logprobs")
KNOWN = {
    *("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "frequency_penalty", "presence_penalty"),
    *("logit_bias", "allowed_tokens", "bad_words", "history", "prompt_length", "defaults"),
}


def process(row: np.ndarray, params: dict[str, Any]) -> np.ndarray:
    """Run the sampler on one row, as for a request with these parameters."""
    is_whole = params.pop("defaults", False)
    vocab_size = len(row)
    names = KNOWN - {"logit_bias", "allowed_tokens", "bad_words", "history", "prompt_length", "defaults"}
    request = SamplingParams.from_optional(
        **{name: params[name] for name in names if name in params},
        logit_bias=dict(map(tuple, params["logit_bias"])) if "logit_bias" in params else None,
    )
    history, prompt_length = params.get("history", []), params.get("prompt_length", 0)
    prompt, output = history[:prompt_length], history[prompt_length:]
    processors = [MinPLogitsProcessor(CONFIG, CPU, False), LogitBiasLogitsProcessor(CONFIG, CPU, False)]
    for processor in processors:
        processor.update_state(BatchUpdate(1, removed=(), added=[(0, request, prompt, output)], moved=()))
    mask = None
    if "allowed_tokens" in params:
        mask = torch.ones(1, vocab_size, dtype=torch.bool)
        mask[0, params["allowed_tokens"]] = False
    penalties = (request.repetition_penalty, request.frequency_penalty, request.presence_penalty)
    metadata = SamplingMetadata(
        temperature=torch.tensor([request.temperature]),
        all_greedy=request.temperature == 0,
        all_random=request.temperature != 0,
        top_p=torch.tensor([request.top_p]) if request.top_p < 1 else None,
        top_k=torch.tensor([min(request.top_k, vocab_size)], dtype=torch.int32) if request.top_k > 0 else None,
        generators={},
        max_num_logprobs=-1,
        no_penalties=penalties == (1.0, 0.0, 0.0),
        prompt_token_ids=torch.tensor([prompt], dtype=torch.long),
        repetition_penalties=torch.tensor([penalties[0]]),
        frequency_penalties=torch.tensor([penalties[1]]),
        presence_penalties=torch.tensor([penalties[2]]),
        output_token_ids=[output],
        allowed_token_ids_mask=mask,
        bad_words_token_ids={0: params["bad_words"]} if "bad_words" in params else {},
        logitsprocs=LogitsProcessors(processors),
    )
    output_of_sampler = SAMPLER(torch.from_numpy(row)[None], metadata)
    if is_whole and request.temperature == 0:  # processed_logprobs do not say what is drawn
        return np.eye(vocab_size)[int(output_of_sampler.sampled_token_ids.item())]
    return weights(output_of_sampler.logprobs_tensors.logprobs[0].numpy())


if __name__ == "__main__":
    torch.set_num_threads(1)
    serve(process, KNOWN)
