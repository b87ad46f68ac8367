#!/usr/bin/env bash
# torch 2.13.0 (CPU): manual_seed takes 64 bits, reports 64 bits, and uses 32.
#
# Input: generators seeded with 3 and with 3 + 5 x 2^32.
# Expected: two streams: the documentation says that the seed is any number in [-2^63, 2^64), and initial_seed() gives each
# its own number back.
# Seen: one stream. The generator of the CPU is a Mersenne Twister that is seeded with 32 bits
# (aten/src/ATen/core/MT19937RNGEngine.h, init_with_uint32); the upper half is dropped without a word. Seeds made by a
# hash, or from a request's number in the upper bits, collide.
#
# Exits 0 while this is so, and 1 once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch

print(f"torch {torch.__version__}")
streams = []
for seed in (3, 3 + 5 * 2**32):
    generator = torch.Generator().manual_seed(seed)
    streams.append(torch.rand(4, generator=generator).tolist())
    print(f"seed {generator.initial_seed():>11}: {[round(number, 4) for number in streams[-1]]}")
raise SystemExit(0 if streams[0] == streams[1] else "the streams differ now: this finding is out of date")
PYTHON
