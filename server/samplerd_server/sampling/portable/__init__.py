"""The portable sampler's parts: torch operators that run on any device and give a row the same bits in any batch.

Rule 1 (batch invariance): only elementwise operations, exact reductions (maximum, minimum, integer sums), gathers,
sorts with every tie decided, and float64 sums along a fixed binary tree (`tree.py`) or a fixed prefix scan
(`total_order.py`), in which padding adds exact zeros. `torch.sum`, `cumsum` of floats, `softmax` and `logsumexp` are
not used: their order of addition depends on the shape.
Rule 2: what a row holds never raises; a bad row computes nonsense inside its own lane and is reported afterwards.
Rule 3: one copy to the device and one copy back for each row group; nothing in between waits for the device. Rows
that need more than the usual path (their filters keep more than the head of the order that was listed, or their masses
underflow) are found after the copy back and run again, in one group of their own.
"""
