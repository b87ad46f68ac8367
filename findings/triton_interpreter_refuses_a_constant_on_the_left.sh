#!/usr/bin/env bash
# Triton 3.7.1: a kernel that compiles fails in Triton's interpreter where a global constant stands left of an operator.
#
# Input: FIVE = tl.constexpr(5.0) in the module, and FIVE - x in a kernel, x being a number that was loaded, 2.
# Expected: 3, in the interpreter (TRITON_INTERPRET=1) as on a GPU, for which the same kernel is compiled to sub.f32.
# Seen: TypeError: cannot convert [3.] of type <class 'triton.language.core.tensor'> to tensor. constexpr.__sub__
# (triton/language/core.py) wraps the difference, which is a tensor, as a constant; so do the other operators and
# comparisons of constexpr. x - FIVE and 5.0 - x are right, and so is a constexpr that is an argument of the kernel.
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

FIVE = tl.constexpr(5.0)


@triton.jit
def left(address):
    numbers = address.to(tl.pointer_type(tl.float32))
    tl.store(numbers + 1, FIVE - tl.load(numbers))


@triton.jit
def right(address):
    numbers = address.to(tl.pointer_type(tl.float32))
    tl.store(numbers + 1, tl.load(numbers) - FIVE)


@triton.jit
def argument(address, five: tl.constexpr):
    numbers = address.to(tl.pointer_type(tl.float32))
    tl.store(numbers + 1, five - tl.load(numbers))


def run(kernel, *arguments):
    numbers = np.array([2, np.nan], np.float32)
    try:
        kernel[(1,)](numbers.ctypes.data, *arguments)
    except Exception as error:
        return str(error)
    return float(numbers[1])


if os.environ.get("TRITON_INTERPRET") == "1":
    seen = [run(left), run(right), run(argument, 5.0)]
    print(f"Triton {triton.__version__}, interpreted: FIVE - x: {seen[0]}")
    print(f"x - FIVE: {seen[1]}; five - x of an argument: {seen[2]}")
    is_so = "cannot convert" in str(seen[0]) and seen[1:] == [-3.0, 3.0]
    sys.exit(0 if is_so else "it is accepted now: this finding is out of date")
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

made = triton.compile(ASTSource(left, {"address": "i64"}, {}), target=GPUTarget("cuda", 90, 32))
[line] = [line.strip() for line in made.asm["ptx"].splitlines() if "sub" in line and "f32" in line]
print(f"compiled for sm_90: {line}")
PYTHON
TRITON_INTERPRET=1 "$folder/venv/bin/python" "$folder/kernel.py"
"$folder/venv/bin/python" "$folder/kernel.py"
