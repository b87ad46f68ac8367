#!/usr/bin/env bash
# jax 0.10.2 (CPU): categorical of 1,000 equal bfloat16 logits draws the first hundred ids in half of all cases.
#
# Input: 1,000 logits of 0 in bfloat16, the type in which models put out their logits; 100,000 draws. The same in float32.
# Expected: each hundred of ids some 10,000 times.
# Seen: the first hundred some 54,500 times, the last hundred some 50 times. The Gumbel noise is made in the type of the
# logits (jax/_src/random.py, gumbel): bfloat16 leaves it some hundred values near its largest, so that the largest of a
# thousand is hardly ever alone, and argmax takes the first of equals.
#
# Exits 0 while this is so, and 1 once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6 scipy==1.17.1
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import jax
import jax.numpy as jnp
import numpy as np

counts = {}
print(f"jax {jax.__version__}, 100,000 draws from 1,000 equal logits, by hundreds of ids")
for dtype in (jnp.float32, jnp.bfloat16):
    ids = jax.random.categorical(jax.random.key(0), jnp.zeros(1_000, dtype), shape=(100_000,))
    counts[dtype] = np.bincount(np.array(ids) // 100, minlength=10).tolist()
    print(f"{jnp.dtype(dtype).name}: {counts[dtype]}")
is_so = max(counts[jnp.float32]) < 10_600 and counts[jnp.bfloat16][0] > 40_000
raise SystemExit(0 if is_so else "bfloat16 is drawn from evenly now: this finding is out of date")
PYTHON
