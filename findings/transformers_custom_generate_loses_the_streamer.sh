#!/usr/bin/env bash
# transformers 5.24.0: generate(custom_generate=FUNCTION) keeps the streamer for itself, and never ends it.
#
# Input: a tiny model with random weights, generate with a streamer, alone and with a decoding function that hands all it is
# given to the model's own loop.
# Expected: the same stream of tokens both times: the documentation of custom_generate says that the function replaces the
# decoding loop and is given what generate prepared, and the arguments of generate go on to it.
# Seen: generate sends the prompt to the streamer, then takes the streamer out of the arguments, and the function is not
# given it. No token is streamed and end() is never called, so that whoever reads a TextIteratorStreamer waits for ever
# (generation/utils.py, _extract_generation_mode_kwargs, which is to remove what such a function does not take).
#
# Exits 0 while this is so, and 1 once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 transformers==5.24.0
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM


class Counter:
    """A streamer that counts what it is told."""

    def __init__(self):
        self.pieces, self.is_ended = 0, False

    def put(self, value):
        self.pieces += 1

    def end(self):
        self.is_ended = True


def decode(model, input_ids, logits_processor, stopping_criteria, generation_config, **arguments):
    return model._sample(input_ids, logits_processor, stopping_criteria, generation_config, **arguments)


print(f"transformers {transformers.__version__}, torch {torch.__version__}")
config = LlamaConfig(
    vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, eos_token_id=None
)
model = LlamaForCausalLM(config).eval()
told = {}
for name, extra in (("own loop", {}), ("custom_generate", {"custom_generate": decode})):
    counter = Counter()
    made = model.generate(torch.tensor([[5, 6, 7]]), do_sample=False, max_new_tokens=4, streamer=counter, **extra)
    told[name] = counter.pieces, counter.is_ended
    print(f"{name}: {made.shape[1] - 3} tokens made, {counter.pieces} pieces streamed, end() called: {counter.is_ended}")
is_so = told == {"own loop": (5, True), "custom_generate": (1, False)}
raise SystemExit(0 if is_so else "the streams differ from what was seen: this finding is out of date")
PYTHON
