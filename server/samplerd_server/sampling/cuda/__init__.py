"""Kernels for a GPU, written in Triton, which give the bits of the compiled kernels of the CPU.

State: plain rows, and rows with top_k and after it top_p and min_p, in Triton's interpreter, which runs the kernels'
source on the CPU. No kernel has run on a GPU yet.
Rule 1: a float operation that is not in `sampling/kernels/` is not here either, and each is rounded as it is there
(`arithmetic.py`); docs/design/0035 says which chains keep their order. Rule 2: plain rows are two launches,
`measure` and `pick`, whatever they are, and filtered ones five. Rule 3: no tensor is as large as the rows: scratch is
some 50 bytes for a block of 512, and 16 KiB for a filtered row.
"""
