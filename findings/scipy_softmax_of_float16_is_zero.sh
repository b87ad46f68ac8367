#!/usr/bin/env bash
# scipy 1.17.1 (numpy 2.4.6): softmax of 131,072 equal float16 logits is 0 everywhere.
#
# Input: zeros in float16, as many as a large vocabulary has; the same in float32.
# Expected: 1 / 131,072 = 7.6e-6 each, which float16 can say. The largest logit is subtracted first, so that nothing
# overflows.
# Seen: 0 each. The exponentials are added up in float16, whose largest number is 65,504; the sum is infinite, and 1 / inf
# is 0 (scipy/special/_logsumexp.py, softmax). A RuntimeWarning tells of an overflow. With 50,000 logits all is well.
#
# Exits 0 while this is so, and 1 once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check scipy==1.17.1 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import numpy as np
import scipy
from scipy.special import softmax

sums = {}
print(f"scipy {scipy.__version__}, numpy {np.__version__}, equal logits")
for count, dtype in ((131_072, np.float32), (50_000, np.float16), (131_072, np.float16)):
    probabilities = softmax(np.zeros(count, dtype))
    sums[count, dtype] = float(probabilities.sum(dtype=np.float64))
    print(f"{count:,} in {np.dtype(dtype).name}: each {probabilities.max():.3g}, together {sums[count, dtype]:.4f}")
is_so = sums[131_072, np.float16] == 0.0 and sums[50_000, np.float16] > 0.99
raise SystemExit(0 if is_so else "the probabilities have a sum now: this finding is out of date")
PYTHON
