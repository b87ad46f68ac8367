#!/usr/bin/env bash
# Triton 3.7.1: tl.fma rounds twice in Triton's interpreter, and once on a GPU.
#
# Input: tl.fma(1 + 2^-13, 1 - 2^-13, -1) in float32.
# Expected: -2^-26, in the interpreter (TRITON_INTERPRET=1) as on a GPU, for which the same kernel is compiled to
# fma.rn.f32: the product is not rounded.
# Seen: 0. create_fma (triton/runtime/interpreter.py) is numpy's x * y + z. A kernel that is tested in the interpreter
# has other bits than on a GPU, and nothing says so.
#
# No GPU is needed: the second process compiles for one. Exits 0 while this is so, and 1 once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check triton==3.7.1 numpy==2.4.6
cat >"$folder/kernel.py" <<'PYTHON'
import os
import sys

import numpy as np
import triton
import triton.language as tl


@triton.jit
def fused(address):
    numbers = address.to(tl.pointer_type(tl.float32))
    tl.store(numbers + 3, tl.fma(tl.load(numbers), tl.load(numbers + 1), tl.load(numbers + 2)))


if os.environ.get("TRITON_INTERPRET") == "1":
    numbers = np.array([1 + 2**-13, 1 - 2**-13, -1, np.nan], np.float32)
    fused[(1,)](numbers.ctypes.data)
    print(f"Triton {triton.__version__}, interpreted: {numbers[3]}, where {-(2.0**-26)} is the rounded result")
    sys.exit(0 if numbers[3] == 0 else "one rounding now: this finding is out of date")
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

made = triton.compile(ASTSource(fused, {"address": "i64"}, {}), target=GPUTarget("cuda", 90, 32))
[line] = [line.strip() for line in made.asm["ptx"].splitlines() if "f32" in line and "st." not in line]
print(f"compiled for sm_90: {line}")
sys.exit(0 if line.startswith("fma.rn.f32") else "this finding is out of date")
PYTHON
TRITON_INTERPRET=1 "$folder/venv/bin/python" "$folder/kernel.py"
"$folder/venv/bin/python" "$folder/kernel.py"
