"""What a row's history forbids and lowers, as lists of tokens: bad words, repeated n-grams and DRY. On the host.

Laws: `sampling/bans.py` and `sampling/dry.py`, by the text of the portable sampler.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from samplerd_server.sampling.decode import read_bytes
from samplerd_server.sampling.portable.history import bad_word_ends, dry_losses, ngram_ends
from samplerd_server.sampling.scope import first_in_scope
from samplerd_server.sampling.sequences import sequences

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["forbidden_tokens", "has_bans", "lowered_tokens", "read_ids"]


def read_ids(row: np.void, address: str, length: str) -> NDArray[np.int32]:
    """Read the int32 list that a row points to."""
    return read_bytes(int(row[address]), 4 * int(row[length])).view(np.int32)


def has_bans(rows: NDArray[np.void]) -> NDArray[np.bool_]:
    """Tell which rows, ROW[B], may forbid tokens by their history or by bad words: bool[B]."""
    own: NDArray[np.bool_] = (rows["no_repeat_ngram_size"] > 0) & (rows["history_len"] > 0)
    return own | (rows["bad_words_ends_len"] > 0)


def forbidden_tokens(row: np.void) -> NDArray[np.int32]:
    """List the tokens that bad_words and no_repeat_ngram_size forbid, some of them more than once."""
    history = read_ids(row, "history", "history_len")
    forbidden = [history[:0]]
    if row["no_repeat_ngram_size"]:
        forbidden.append(ngram_ends(history, int(row["no_repeat_ngram_size"])))
    if row["bad_words_ends_len"]:
        begin = first_in_scope(len(history), int(row["bad_words_scope"]), int(row["prompt_length"]), 0)
        words, ends = (read_ids(row, f"bad_words_{name}", f"bad_words_{name}_len") for name in ("ids", "ends"))
        forbidden.append(bad_word_ends(history[begin:], words, ends))
    return np.concatenate(forbidden)


def lowered_tokens(row: np.void) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """List the tokens that DRY lowers, each once, and what they lose, > 0."""
    history = read_ids(row, "history", "history_len")
    ids = read_ids(row, "dry_breaker_sequences_ids", "dry_breaker_sequences_ids_len")
    return dry_losses(
        history[-int(row["dry_range"]) :],  # a range of 0 is all
        multiplier=float(row["dry_multiplier"]),
        base=float(row["dry_base"]),
        allowed_length=0 if row["dry_allow_no_repeat"] else int(row["dry_allowed_length"]),
        breakers=read_ids(row, "dry_sequence_breakers", "dry_sequence_breakers_len"),
        sequences=sequences(ids, read_ids(row, "dry_breaker_sequences_ends", "dry_breaker_sequences_ends_len")),
    )
