#!/usr/bin/env bash
# torch 2.13.0 (CPU): a tensor that torch has yet to negate goes through DLPack with the opposite sign.
#
# Input: x = [1+2j]; x.conj().imag, which is [-2]. torch keeps it as a view of [2] with the negative bit set.
# Expected: torch.from_dlpack and numpy.from_dlpack give [-2], or an error, as they do for a set conjugate bit ("Can't
# export tensors with the conjugate bit set").
# Seen: both give [2]. Tensor.__dlpack__ looks at the conjugate bit and not at the negative bit (torch/_tensor.py).
# Until that changes, callers export tensor.resolve_neg().
#
# Exits 0 while this is so, and 1 once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import torch

x = torch.tensor([1 + 2j])
later = x.conj().imag
print(f"torch {torch.__version__}, numpy {np.__version__}")
print(f"x.conj().imag:                  {later.tolist()}, negative bit {later.is_neg()}")
got = {
    "torch.from_dlpack of it:        ": torch.from_dlpack(later).tolist(),
    "numpy.from_dlpack of it:        ": np.from_dlpack(later).tolist(),
    "the same after resolve_neg():   ": torch.from_dlpack(later.resolve_neg()).tolist(),
}
for what, numbers in got.items():
    print(what + str(numbers))
try:
    torch.from_dlpack(x.conj())
except BufferError as error:
    print(f"x.conj(), whose conjugate bit is set: BufferError: {error}")
is_lost = list(got.values()) == [[2.0], [2.0], [-2.0]]
raise SystemExit(0 if is_lost else "the sign is kept now: this finding is out of date")
PYTHON
