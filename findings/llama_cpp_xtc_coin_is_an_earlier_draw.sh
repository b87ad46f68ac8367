#!/usr/bin/env bash
# llama.cpp b11549 (xllamacpp 2026.10.11549): with a seed, whether XTC acts on token 2n is decided by the number that drew
# token n.
#
# Input: llama.cpp's server, a tiny model whose tokens are all equally likely, xtc_probability 0.5, two tokens, seeds 1 to 800.
# Seven tokens can be drawn; where XTC acts it leaves the last of them alone, token 6.
# Expected: XTC acts on the second token with probability 0.5, whatever the first token was: token 6 comes second in
# 0.5 + 0.5 / 7 = 57 % of the texts after any first token.
# Seen: after tokens 0, 1 and 2 always, and after tokens 4 and 5 in one of seven, as if XTC were always and never on. The
# sampler of XTC and the last one, which draws, each have a std::mt19937, and common_sampler_init (common/sampling.cpp, as
# read in llama-cpp-python 0.3.36) gives both the seed of the request. XTC takes one number of 32 bits for a token and the
# draw takes two, of which the second decides. Without a seed each sampler takes a random one of its own.
#
# Exits 0 while this is so, and 1 once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check xllamacpp==2026.10.11549 gguf==0.19.0 numpy==2.4.6
cat >"$folder/main.py" <<'PYTHON'
import collections
import json
import sys

import gguf
import numpy as np
import xllamacpp

TOKENS, WIDTH = 8, 32  # the last token ends a text, and is ignored
path = sys.argv[1]
model = gguf.GGUFWriter(path, "llama")
model.add_context_length(64)
model.add_embedding_length(WIDTH)
model.add_block_count(1)
model.add_feed_forward_length(WIDTH)
model.add_head_count(1)
model.add_head_count_kv(1)
model.add_layer_norm_rms_eps(1e-5)
model.add_tokenizer_model("llama")
model.add_token_list([f"w{token}" for token in range(TOKENS)])
model.add_token_scores([0.0] * TOKENS)
model.add_token_types([gguf.TokenType.NORMAL] * (TOKENS - 1) + [gguf.TokenType.CONTROL])
model.add_unk_token_id(TOKENS - 1)
model.add_bos_token_id(TOKENS - 1)
model.add_eos_token_id(TOKENS - 1)
for name in ("token_embd", "output"):
    model.add_tensor(f"{name}.weight", np.zeros((TOKENS, WIDTH), np.float32))
for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
    model.add_tensor(f"blk.0.{name}.weight", np.zeros((WIDTH, WIDTH), np.float32))
for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
    model.add_tensor(f"{name}.weight", np.ones(WIDTH, np.float32))
model.write_header_to_file()
model.write_kv_data_to_file()
model.write_tensors_to_file()
model.close()

settings = xllamacpp.CommonParams()
settings.model.path = path
settings.n_ctx, settings.n_parallel, settings.port = 64, 1, 0
settings.cpuparams.n_threads = 1
server = xllamacpp.Server(settings)
seen = {"0, 1 and 2": collections.Counter(), "4 and 5": collections.Counter()}
for seed in range(1, 801):
    asked = {"prompt": [1, 2], "n_predict": 2, "seed": seed, "ignore_eos": True, "samplers": ["xtc"]}
    reply = server.handle_completions({**asked, "xtc_probability": 0.5, "xtc_threshold": 0.1})
    reply = json.loads(reply) if isinstance(reply, str) else reply
    first, second = (int(token) for token in reply["choices"][0]["text"].split("w")[1:])
    for name, counter in seen.items():
        if str(first) in name:
            counter[second] += 1
print(f"xllamacpp {xllamacpp.__version__}, XTC with probability 0.5, the share of token 6 as the second of two")
shares = {}
for name, counter in seen.items():
    shares[name] = counter[6] / counter.total()
    print(f"after tokens {name}: {shares[name]:.2f} of {counter.total()} texts; 0.57 expected")
is_so = shares["0, 1 and 2"] == 1 and shares["4 and 5"] < 0.3
raise SystemExit(0 if is_so else "the two are independent now: this finding is out of date")
PYTHON
"$folder/venv/bin/python" "$folder/main.py" "$folder/model.gguf" 2>"$folder/log" || {
	status=$?
	tail -n 5 "$folder/log" >&2
	exit "$status"
}
