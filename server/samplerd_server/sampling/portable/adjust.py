"""Steps 2 to 4 of a group: mask, bias and penalties, and their effect on the rest, where rows are candidates.

The host reads the lists that the records point to and turns them into positions and amounts; the device applies them.
Laws: `reference/adjust.py`; every adjusted logit saturates at the largest float32.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from samplerd_server.core.enums import Step
from samplerd_server.sampling.decode import read_bytes
from samplerd_server.sampling.dry import LARGEST
from samplerd_server.sampling.parameters import has_token_penalties
from samplerd_server.sampling.portable.history import bad_word_ends, dry_losses, ngram_ends
from samplerd_server.sampling.portable.records import Fields, upload
from samplerd_server.sampling.scope import first_in_scope
from samplerd_server.sampling.sequences import sequences

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Adjuster", "read_ids"]

_NEVER = float("-inf")


def read_ids(record: np.void, address: str, length: str) -> NDArray[np.int32]:
    """Read the int32 list that a record points to."""
    return read_bytes(int(record[address]), 4 * int(record[length])).view("<i4")


@dataclass(slots=True)
class _Entries:
    """Amounts at positions of rows; mutable while a group's lists are read."""

    rows: list[NDArray[np.int64]] = field(default_factory=list)
    positions: list[NDArray[np.int64]] = field(default_factory=list)
    amounts: list[NDArray[np.float64]] = field(default_factory=list)

    def add(self, row: int, positions: NDArray[np.integer], amounts: NDArray[np.float64]) -> None:
        """Note amounts [n, k] for positions [n]."""
        self.rows.append(np.full(len(positions), row))
        self.positions.append(positions.astype(np.int64))
        self.amounts.append(amounts)

    def on(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        rows, positions = np.concatenate(self.rows), np.concatenate(self.positions)
        return upload(rows, device), upload(positions, device), upload(np.concatenate(self.amounts), device)


class Adjuster:
    """Applies mask, bias and penalties to the logits of a group."""

    def __init__(self, records: NDArray[np.void], width: int, ids: list[NDArray[np.int64]] | None) -> None:
        """Read the lists. Args: records, ROW[B]; width, W; ids of the candidates of each row, ascending, or None."""
        self.rest = records["rest_logsumexp"].copy()
        """float64[B]: ln of the rest's mass after the adjustments; NaN = unknown; -inf = none."""
        self.undecided = np.zeros(len(records), bool)
        """bool[B]: the rest may have been raised, so that nothing can be said."""
        self.as_logits = np.zeros(len(records), bool)
        """bool[B]: a bias or a penalty is applied, so that weights become ln w, rounded to float32."""
        self._ids = ids
        self._allowed: NDArray[np.bool_] | None = None
        self._bias, self._penalties, self._dry = _Entries(), _Entries(), _Entries()
        for row, record in enumerate(records):
            forbidden = _forbidden(record)
            if record["has_allowed_tokens"] or record["has_token_bitmask"] or len(forbidden):
                if self._allowed is None:
                    self._allowed = np.ones((len(records), width), bool)
                self._mask(row, record, forbidden, self._allowed)
            if record["bias_ids_len"]:
                self.as_logits[row] = True
                self._add_bias(row, record)
            if record["history_len"] and (has_token_penalties(Fields(record)) or record["dry_multiplier"] > 0):
                self.as_logits[row] = True
                self._add_penalties(row, record)

    def apply(self, logits: Tensor) -> tuple[Tensor, dict[Step, Tensor]]:
        """Adjust logits float64[B, W]; also returns the largest of each row, float64[B, 1], after each step.

        Every adjusted number is rounded to float32 after bias, after the three penalties, and after DRY.
        """
        largest: dict[Step, Tensor] = {}
        device = logits.device
        if self._allowed is not None:
            logits = logits.masked_fill(~upload(self._allowed, device), _NEVER)
            largest[Step.MASK] = logits.amax(1, keepdim=True)
        if self._bias.rows:
            rows, positions, amounts = self._bias.on(device)
            old = logits[rows, positions]
            logits = _put(logits, rows, positions, old + amounts[:, 0], forbidden=amounts[:, 0] == _NEVER)
            largest[Step.BIAS] = logits.amax(1, keepdim=True)
        if self._penalties.rows:
            rows, positions, amounts = self._penalties.on(device)
            old = logits[rows, positions]
            new = torch.where(old > 0, old / amounts[:, 0], old * amounts[:, 0]).clamp_(-LARGEST, LARGEST)
            logits = _put(logits, rows, positions, new - amounts[:, 1] - amounts[:, 2])
        if self._dry.rows:
            rows, positions, amounts = self._dry.on(device)
            logits = _put(logits, rows, positions, logits[rows, positions] - amounts[:, 0])
        return logits, largest

    def _mask(self, row: int, record: np.void, forbidden: NDArray[np.int32], allowed: NDArray[np.bool_]) -> None:
        has_list = bool(record["has_allowed_tokens"] or record["has_token_bitmask"])
        is_allowed = np.full(int(record["vocab_size"]), not has_list)
        if record["has_allowed_tokens"]:
            is_allowed[read_ids(record, "allowed_tokens", "allowed_tokens_len")] = True
        if record["has_token_bitmask"]:
            words = read_bytes(int(record["token_bitmask"]), 4 * int(record["token_bitmask_len"]))
            bits = np.unpackbits(words, bitorder="little")[: len(is_allowed)].view(bool)
            is_allowed[: len(bits)] |= bits
        is_allowed[forbidden] = False
        if self._ids is None:
            allowed[row, : len(is_allowed)] = is_allowed
            return
        own = self._ids[row]
        allowed[row, : len(own)] = is_allowed[own]
        is_allowed[own] = False
        unsent = len(is_allowed) - len(own)
        if not is_allowed.any():
            self.rest[row] = _NEVER
        elif int(is_allowed.sum()) < unsent:
            self._lower_rest(row)

    def _add_bias(self, row: int, record: np.void) -> None:
        values = read_bytes(int(record["bias_values"]), 4 * int(record["bias_ids_len"])).view("<f4")
        amounts = values.astype(np.float64)
        self._put(self._bias, row, read_ids(record, "bias_ids", "bias_ids_len"), amounts[:, None], change=amounts)

    def _add_penalties(self, row: int, record: np.void) -> None:
        history = read_ids(record, "history", "history_len")
        if has_token_penalties(Fields(record)):
            self._add_token_penalties(row, record, history)
        if record["dry_multiplier"] > 0:
            tokens, losses = dry_losses(
                history[-int(record["dry_range"]) :],  # a range of 0 is all
                multiplier=float(record["dry_multiplier"]),
                base=float(record["dry_base"]),
                allowed_length=0 if record["dry_allow_no_repeat"] else int(record["dry_allowed_length"]),
                breakers=read_ids(record, "dry_sequence_breakers", "dry_sequence_breakers_len"),
                sequences=_read_sequences(record, "dry_breaker_sequences"),
            )
            self._put(self._dry, row, tokens, losses[:, None], change=-losses)

    def _add_token_penalties(self, row: int, record: np.void, history: NDArray[np.int32]) -> None:
        repetition, presence = float(record["repetition_penalty"]), float(record["presence_penalty"])
        frequency = float(record["frequency_penalty"])
        tokens, at = np.unique(history, return_inverse=True)
        repeated, counts, present = (
            np.bincount(at[_first_in_scope(record, name) :], minlength=len(tokens))
            for name in ("repetition_scope", "frequency_scope", "presence_scope")
        )
        factors = np.where(repeated > 0, repetition, 1.0)
        with np.errstate(over="ignore"):
            often, once = counts * frequency, np.where(present > 0, presence, 0.0)
            others, taken = 1.0 - factors, often + once
        change = np.where((others > 0) | (taken < 0), 1.0, np.where((others < 0) | (taken > 0), -1.0, 0.0))
        self._put(self._penalties, row, tokens, np.stack([factors, often, once], 1), change=change)

    def _put(
        self,
        entries: _Entries,
        row: int,
        tokens: NDArray[np.int32],
        amounts: NDArray[np.float64],
        *,
        change: NDArray[np.float64],
    ) -> None:
        """Note amounts [n, k] for tokens [n]; of those that were not sent, what their `change` [n] does to the rest."""
        if self._ids is None:
            entries.add(row, tokens, amounts)
            return
        own = self._ids[row]
        positions = np.searchsorted(own, tokens)
        is_sent = own[np.minimum(positions, len(own) - 1)] == tokens
        entries.add(row, positions[is_sent], amounts[is_sent])
        if self.rest[row] != _NEVER:
            self.undecided[row] |= bool((change[~is_sent] > 0).any())
        if (change[~is_sent] < 0).any():
            self._lower_rest(row)

    def _lower_rest(self, row: int) -> None:
        if self.rest[row] != _NEVER:
            self.rest[row] = np.nan


def _put(logits: Tensor, rows: Tensor, positions: Tensor, new: Tensor, *, forbidden: Tensor | None = None) -> Tensor:
    """Replace logits by new ones, which saturate and are rounded; -inf stays, and what is `forbidden` becomes -inf."""
    was_never = logits[rows, positions] == _NEVER
    is_never = was_never if forbidden is None else was_never | forbidden
    adjusted = torch.where(is_never, _NEVER, new.clamp(-LARGEST, LARGEST).float().double())
    return logits.index_put((rows, positions), adjusted)


def _forbidden(record: np.void) -> NDArray[np.int32]:
    """List the tokens that no_repeat_ngram_size and bad_words forbid."""
    if not record["bad_words_ends_len"] and not (record["no_repeat_ngram_size"] and record["history_len"]):
        return np.empty(0, np.int32)
    history = read_ids(record, "history", "history_len")
    forbidden = []
    if record["no_repeat_ngram_size"]:
        forbidden.append(ngram_ends(history, int(record["no_repeat_ngram_size"])))
    if record["bad_words_ends_len"]:
        begin = first_in_scope(len(history), int(record["bad_words_scope"]), int(record["prompt_length"]), 0)
        words, ends = (read_ids(record, f"bad_words_{name}", f"bad_words_{name}_len") for name in ("ids", "ends"))
        forbidden.append(bad_word_ends(history[begin:], words, ends))
    return np.concatenate(forbidden)


def _read_sequences(record: np.void, name: str) -> list[list[int]]:
    if not record[f"{name}_ends_len"]:
        return []
    return sequences(
        read_ids(record, f"{name}_ids", f"{name}_ids_len"), read_ids(record, f"{name}_ends", f"{name}_ends_len")
    )


def _first_in_scope(record: np.void, scope: str) -> int:
    """Find where a penalty begins to look at the history of a record."""
    return first_in_scope(
        int(record["history_len"]), int(record[scope]), int(record["prompt_length"]), int(record["penalty_range"])
    )
