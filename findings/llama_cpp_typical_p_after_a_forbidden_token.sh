#!/usr/bin/env bash
# llama.cpp (llama-cpp-python 0.3.36): typical_p keeps the most likely token instead of the most typical one as soon as any
# token has a logit of -inf.
#
# Input: probabilities 0.6, 0.2, 0.1, 0.1 and a fifth token that a logit bias forbids, as ignore_eos does; typical_p 0.15.
# Expected: a forbidden token has probability 0 and changes nothing. The entropy is 1.09 nats, so the token of probability
# 0.2 is the most typical (surprise 1.61) and is kept alone, as it is when the bias is -60 and not -inf.
# Seen: the entropy is a sum of -p ln p in which the forbidden token is -0 x -inf, not a number
# (src/llama-sampler.cpp:1922). All comparisons with it are false, so the tokens stay sorted by probability, and typical_p
# keeps the most likely one. top_n_sigma, which sets logits to -inf and comes first in the default chain, does the same.
#
# It compiles llama.cpp: minutes. Exits 0 while this is so, and 1 once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6
CMAKE_ARGS="-DGGML_NATIVE=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_TOOLS=OFF
	-DLLAMA_BUILD_SERVER=OFF -DMTMD_BUILD=OFF -DLLAMA_CURL=OFF" \
	"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-binary llama-cpp-python llama-cpp-python==0.3.36
"$folder/venv/bin/python" - <<'PYTHON'
import ctypes
import math

import llama_cpp as llama

LOGITS = [*map(math.log, (0.6, 0.2, 0.1, 0.1)), 0.0]


def kept(bias: float) -> list[int]:
    """Ids that are left after a bias on the last token and typical_p."""
    data = (llama.llama_token_data * len(LOGITS))(*((token, logit, 0.0) for token, logit in enumerate(LOGITS)))
    array = llama.llama_token_data_array(data=data, size=len(LOGITS), selected=-1, sorted=False)
    biases = (llama.llama_logit_bias * 1)(llama.llama_logit_bias(token=4, bias=bias))
    for sampler in (
        llama.llama_sampler_init_logit_bias(len(LOGITS), 1, biases),
        llama.llama_sampler_init_typical(0.15, 1),
    ):
        llama.llama_sampler_apply(sampler, ctypes.byref(array))
        llama.llama_sampler_free(sampler)
    return [array.data[at].id for at in range(array.size)]


low, never = kept(-60.0), kept(-math.inf)
print(f"llama-cpp-python {llama.__version__}, typical_p 0.15 of probabilities 0.6, 0.2, 0.1, 0.1")
print(f"fifth token biased by -60: tokens {low} are kept")
print(f"fifth token biased by -inf: tokens {never} are kept")
raise SystemExit(0 if (low, never) == ([1], [0]) else "the two agree now: this finding is out of date")
PYTHON
