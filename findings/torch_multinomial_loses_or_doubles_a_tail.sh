#!/usr/bin/env bash
# torch 2.13.0 (CPU): multinomial with replacement never draws from a tail of 5% of the mass, or draws it twice as often.
#
# Input: one weight of 1 and a million weights of 5e-8, which together are 4.76% of the mass; then of 6e-8, 5.66%.
# Expected: some 9,520 and 11,320 of 200,000 draws are of the tail.
# Seen: none, and some 21,400. The weights are added up one after the other in their own type, float32
# (aten/src/ATen/native/cpu/MultinomialKernel.cpp, cum_dist), in which 1 + 5e-8 is 1, and 1 + 6e-8 is 1 + 1.19e-7.
#
# Exits 0 while this is so, and 1 once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch

torch.set_num_threads(1)
torch.manual_seed(0)
DRAWS = 200_000
counts = []
print(f"torch {torch.__version__}, {DRAWS:,} draws")
for weight in (5e-8, 6e-8):
    weights = torch.full((1_000_001,), weight)
    weights[0] = 1.0
    mass = float(1 - 1 / weights.double().sum())
    counts.append(int((torch.multinomial(weights, DRAWS, replacement=True) > 0).sum()))
    print(f"a million weights of {weight}, {mass:.2%} of the mass: {counts[-1]:,} draws, {DRAWS * mass:,.0f} expected")
is_so = counts[0] == 0 and counts[1] > 1.7 * DRAWS * 0.0566
raise SystemExit(0 if is_so else "the tail has its mass now: this finding is out of date")
PYTHON
