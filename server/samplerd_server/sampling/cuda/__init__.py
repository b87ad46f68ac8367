"""Kernels for a GPU, written in Triton, which give the bits of the compiled kernels of the CPU.

State: they run in Triton's interpreter, which runs the kernels' source on the CPU; none has run on a GPU yet.
`scope.py` says which rows they draw from. Rule 1: a float operation that is not in `sampling/kernels/` is not here
either, and each is rounded as it is there (`arithmetic.py`); docs/design/0035 says which chains keep their order.
Rule 2: a batch of plain rows is two launches, `measure` and `pick`, and any other batch at most eight (`draw.py`).
Rule 3: scratch is some 60 bytes for a block of 512, and 16 KiB for a row with a top_k; 24 bytes for each number of a
row with other filters, and 4 for each of a row that is changed.
"""
