"""A loop over the low-level API of llama-cpp-python: `decode_loop` runs a model over sequences, another one draws.

Rule 1: logits are read where llama.cpp keeps them. Rule 2: what llama.cpp would stop the process for is refused before
the model runs. It knows nothing of samplerd: `llama_cpp` has the function that draws with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

try:
    import llama_cpp as llama
except ImportError as error:
    raise ImportError(
        "samplerd_client.integrations.llama_cpp needs llama-cpp-python: pip install 'samplerd[llama-cpp]'",
        name=error.name,
    ) from error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

__all__ = ["Outputs", "decode_loop"]

_NO_ROOM = 1
"""What `llama_decode` returns if the cells of the context are all taken."""


class _Token(NamedTuple):
    """A token that the model is to read."""

    token: int
    position: int
    sequence: int
    is_last: bool
    """The logits after it are asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """The rows that one call of `llama_decode` has left in the context: n of them, V numbers each."""

    sequences: tuple[int, ...]
    """Which prompt each row follows, from 0."""
    positions: tuple[int, ...]
    """Index of each row's token in the batch, as `llama_sampler_sample` takes it."""
    logits: NDArray[np.float32]
    """[n, V]: the memory of the context itself, which the next call of `llama_decode` overwrites."""
    step: int
    """How many tokens were drawn after each of these prompts, from 0."""


def decode_loop(
    context: Any,
    prompts: Sequence[Sequence[int]],
    draw: Callable[[Outputs], Sequence[int] | NDArray[np.int32]],
    *,
    max_tokens: int,
) -> Iterator[tuple[int, int]]:
    """Run a model over sequences, and yield (sequence, token) for each token as soon as it is drawn.

    A sequence ends with a token that ends generation (`llama_vocab_is_eog`), which is yielded too, or with
    `max_tokens`. The loop owns sequences 0 to B - 1 of the context: it empties them first, and each when it ends.

    Args:
        context: a `llama_context_p` of a decoder; `Llama` has it as ``llama.ctx``.
        prompts: token ids of each sequence, B lists of at least one.
        draw: takes rows, and returns one token for each.
        max_tokens: most tokens to draw for a sequence, at least 1.

    Raises:
        ValueError: the prompts do not fit into the context, or have ids that the model has not.
        RuntimeError: `llama_decode` failed.

    """
    vocab = llama.llama_model_get_vocab(llama.llama_get_model(context))
    _check(context, prompts, max_tokens, llama.llama_vocab_n_tokens(vocab))
    return _run(context, vocab, prompts, draw, max_tokens)


def _check(context: Any, prompts: Sequence[Sequence[int]], max_tokens: int, vocab_size: int) -> None:
    """Refuse what llama.cpp would stop the process for, or fail at after many tokens."""
    most, room = llama.llama_n_seq_max(context), llama.llama_n_ctx_seq(context)
    if max_tokens < 1:
        raise ValueError(f"max_tokens: must be at least 1, got {max_tokens}")
    if not 1 <= len(prompts) <= most:
        raise ValueError(f"prompts: the context has from 1 to {most} sequences (n_seq_max), got {len(prompts)}")
    for number, prompt in enumerate(prompts):
        if len(prompt) == 0 or min(prompt) < 0 or max(prompt) >= vocab_size:
            raise ValueError(f"prompts: prompt {number} must have at least one id, and all in [0, {vocab_size})")
        if len(prompt) + max_tokens - 1 > room:  # the last token is drawn and not read
            raise ValueError(
                f"prompts: prompt {number} has {len(prompt)} tokens, and with {max_tokens} more it is longer than a"
                f" sequence of this context may be ({room} tokens, n_ctx)"
            )


def _run(
    context: Any,
    vocab: Any,
    prompts: Sequence[Sequence[int]],
    draw: Callable[[Outputs], Sequence[int] | NDArray[np.int32]],
    max_tokens: int,
) -> Iterator[tuple[int, int]]:
    memory, most = llama.llama_get_memory(context), llama.llama_n_batch(context)
    for sequence in range(len(prompts)):
        llama.llama_memory_seq_rm(memory, sequence, -1, -1)
    following = [
        _Token(int(token), position, sequence, position == len(prompt) - 1)
        for sequence, prompt in enumerate(prompts)
        for position, token in enumerate(prompt)
    ]
    batch = llama.llama_batch_init(most, 0, 1)
    try:
        for step in range(max_tokens):
            tokens, following = following, []
            for first in range(0, len(tokens), most):
                outputs = _decode(context, vocab, batch, tokens[first : first + most], step)
                if not outputs.sequences:
                    continue
                for sequence, token in zip(outputs.sequences, map(int, draw(outputs)), strict=True):
                    yield sequence, token
                    if llama.llama_vocab_is_eog(vocab, token):
                        llama.llama_memory_seq_rm(memory, sequence, -1, -1)
                    else:
                        position = len(prompts[sequence]) + step
                        following.append(_Token(token, position, sequence, is_last=True))
    finally:
        llama.llama_batch_free(batch)


def _decode(context: Any, vocab: Any, batch: Any, tokens: Sequence[_Token], step: int) -> Outputs:
    """Have the model read tokens, and return the rows that were asked for."""
    batch.n_tokens = len(tokens)
    for index, own in enumerate(tokens):
        batch.token[index], batch.pos[index], batch.logits[index] = own.token, own.position, own.is_last
        batch.n_seq_id[index], batch.seq_id[index][0] = 1, own.sequence
    status = llama.llama_decode(context, batch)
    if status != 0:
        reason = ": the context has no room for the tokens of all sequences (n_ctx)" if status == _NO_ROOM else ""
        raise RuntimeError(f"llama_decode failed with status {status}{reason}")
    asked = tuple(index for index, own in enumerate(tokens) if own.is_last)
    sequences = tuple(tokens[index].sequence for index in asked)
    vocab_size = llama.llama_vocab_n_tokens(vocab)
    if not asked:
        return Outputs(sequences=(), positions=(), logits=np.empty((0, vocab_size), np.float32), step=step)
    # The rows that were asked for lie one behind the other, in the order of the batch (llama.h, llama_get_logits).
    pointer = llama.llama_get_logits_ith(context, asked[0])
    if not pointer:
        raise RuntimeError("llama_get_logits_ith returned no logits: does the context have samplers or embeddings?")
    logits = np.ctypeslib.as_array(pointer, (len(asked), vocab_size))
    return Outputs(sequences=sequences, positions=asked, logits=logits, step=step)
