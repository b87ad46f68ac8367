"""A stand-in for llama-cpp-python's low-level API: contexts of a model whose logits are a plain function.

The largest number of the row after a token t at position p of sequence s is at (3 t + 5 p + 11 s) mod V, as `following`
says. A context keeps what it was told, and fails where llama.cpp would stop the process.
"""

from __future__ import annotations

import ctypes
from types import ModuleType
from typing import Any

import numpy as np

__all__ = ["Context", "following", "module"]


def following(token: int, position: int, sequence: int, vocab_size: int) -> int:
    return (3 * token + 5 * position + 11 * sequence) % vocab_size


class Context:
    def __init__(
        self, *, vocab_size: int = 31, n_batch: int = 64, n_seq_max: int = 4, n_ctx_seq: int = 32, end: int = -1
    ) -> None:
        self.vocab_size, self.n_batch, self.n_seq_max, self.n_ctx_seq = vocab_size, n_batch, n_seq_max, n_ctx_seq
        self.end = end
        self.cells: dict[int, list[int]] = {sequence: [99] for sequence in range(n_seq_max)}
        """The tokens of each sequence; at first, some of an earlier use."""
        self.decoded: list[list[int]] = []
        """The sequences of the tokens of each call of llama_decode."""
        self.status = 0
        """What llama_decode returns."""
        self.batches = 0
        """How many are allocated."""
        self.logits = (ctypes.c_float * (vocab_size * n_batch))()
        self._rows: dict[int, int] = {}

    def decode(self, batch: Any) -> int:
        assert 1 <= batch.n_tokens <= self.n_batch
        if self.status:
            return self.status
        self._rows = {}
        rows = np.ctypeslib.as_array(self.logits).reshape(self.n_batch, self.vocab_size)
        rows[:] = np.nan
        for index in range(batch.n_tokens):
            token, position, sequence = batch.token[index], batch.pos[index], batch.seq_id[index][0]
            assert batch.n_seq_id[index] == 1
            assert position == len(self.cells[sequence]), "a token is missing"
            self.cells[sequence].append(token)
            if batch.logits[index]:
                row = rows[len(self._rows)]
                row[:] = 0
                row[following(token, position, sequence, self.vocab_size)] = 1
                self._rows[index] = len(self._rows)
        self.decoded.append([batch.seq_id[index][0] for index in range(batch.n_tokens)])
        return 0

    def logits_of(self, index: int) -> Any:
        start = ctypes.addressof(self.logits) + 4 * self.vocab_size * self._rows[index]
        return ctypes.cast(start, ctypes.POINTER(ctypes.c_float))

    def remove(self, sequence: int, first: int, last: int) -> None:
        assert (first, last) == (-1, -1)
        self.cells[sequence] = []

    def allocate(self, tokens: int, embedding: int, sequences: int) -> Any:
        assert embedding == 0
        self.batches += 1
        own = _Batch()
        own.token, own.pos = (ctypes.c_int32 * tokens)(), (ctypes.c_int32 * tokens)()
        own.n_seq_id, own.logits = (ctypes.c_int32 * tokens)(), (ctypes.c_int8 * tokens)()
        own.seq_id = [(ctypes.c_int32 * sequences)() for _ in range(tokens)]
        own.context = self
        return own


class _Batch:
    n_tokens: int
    token: Any
    pos: Any
    n_seq_id: Any
    seq_id: Any
    logits: Any
    context: Context


def module(context: Context) -> ModuleType:
    """Return what ``import llama_cpp`` gives; its batches belong to this context."""
    own: Any = ModuleType("llama_cpp")
    own.llama_get_model = own.llama_model_get_vocab = own.llama_get_memory = lambda of: of
    own.llama_vocab_n_tokens = lambda vocab: vocab.vocab_size
    own.llama_vocab_is_eog = lambda vocab, token: token == vocab.end
    own.llama_n_seq_max = lambda of: of.n_seq_max
    own.llama_n_ctx_seq = lambda of: of.n_ctx_seq
    own.llama_n_batch = lambda of: of.n_batch
    own.llama_memory_seq_rm = Context.remove
    own.llama_decode = Context.decode
    own.llama_get_logits_ith = Context.logits_of
    own.llama_batch_init = context.allocate

    def free(batch: _Batch) -> None:
        batch.context.batches -= 1

    own.llama_batch_free = free
    return own
