#!/usr/bin/env bash
# transformers 5.24.0 (torch 2.13.0, CPU): generate(do_sample=True, top_k=1) draws at random.
#
# Input: a tiny GPT-2 with random weights in bfloat16, one prompt, 64 new tokens, five seeds.
# Expected: top_k is "the number of highest probability vocabulary tokens to keep", so 1 leaves one token, and every seed
# gives the text of greedy search.
# Seen: TopKLogitsWarper drops what is below the k-th largest logit, so all tokens that equal it stay
# (generation/logits_process.py:622). In bfloat16 the largest logit is often not alone: the seeds give several texts.
#
# Exits 0 while this is so, and 1 once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.24.0
"$folder/venv/bin/python" - <<'PYTHON'
import torch
import transformers

transformers.logging.set_verbosity_error()
torch.set_num_threads(1)
torch.manual_seed(0)
config = transformers.GPT2Config(
    vocab_size=5_000, n_positions=128, n_embd=32, n_layer=1, n_head=2, bos_token_id=None, eos_token_id=None,
    tie_word_embeddings=False, initializer_range=0.5,
)
model = transformers.GPT2LMHeadModel(config).to(torch.bfloat16).eval()
prompt = torch.tensor([[1, 2, 3]])


def text(seed, **settings):
    torch.manual_seed(seed)
    return model.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=64, pad_token_id=0, **settings
    )[0].tolist()


greedy = text(0, do_sample=False)
texts = [text(seed, do_sample=True, top_k=1) for seed in range(1, 6)]
print(f"transformers {transformers.__version__}, torch {torch.__version__}")
print(f"greedy search: {greedy[3:9]} ...")
for seed, own in enumerate(texts, 1):
    differ = sum(a != b for a, b in zip(greedy, own, strict=True))
    print(f"top_k=1, seed {seed}: {own[3:9]} ... ({differ} of 64 tokens differ from greedy search)")
is_random = any(own != texts[0] for own in texts)
raise SystemExit(0 if is_random else "top_k=1 is greedy now: this finding is out of date")
PYTHON
