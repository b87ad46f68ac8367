#!/usr/bin/env bash
# mlx-lm 0.32.2: xtc_probability 0.5 acts on all rows of a batch or on none.
#
# Input: 64 equal rows in one batch, as batch_generate samples them; XTC with probability 0.5 and threshold 0.1; 200 steps.
# Expected: "Probability of XTC sampling to happen for each token": in each step on some 32 of the 64 rows.
# Seen: on 64 or on 0, never on another number. apply_xtc draws one uniform number, mx.random.uniform(0, 1) without a shape
# (sample_utils.py, apply_xtc), and all rows share it: requests that meet in a batch become correlated.
#
# Exits 0 while this is so, and 1 once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'mlx[cpu]==0.32.4' numpy==2.4.6
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check mlx-lm==0.32.2
"$folder/venv/bin/python" - <<'PYTHON'
import collections
from importlib.metadata import version

import mlx.core as mx
import numpy as np
from mlx_lm import sample_utils

mx.set_default_device(mx.cpu)
mx.disable_compile()
mx.random.seed(0)
rows = mx.array(np.log(np.tile(np.array([0.5, 0.3, 0.2], np.float32), (64, 1))))
acted = collections.Counter()
for _ in range(200):
    left = np.array(sample_utils.apply_xtc(rows, 0.5, 0.1, []))
    acted[int(np.isinf(left[:, 0]).sum())] += 1
print(f"mlx-lm {version('mlx-lm')}: XTC acted on this many of 64 rows, in this many of 200 steps: {dict(acted)}")
raise SystemExit(0 if set(acted) == {0, 64} else "every row has its own coin now: this finding is out of date")
PYTHON
