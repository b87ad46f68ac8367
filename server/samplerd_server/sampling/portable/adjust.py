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
from samplerd_server.sampling.dry import LARGEST, dry_penalties
from samplerd_server.sampling.parameters import has_token_penalties
from samplerd_server.sampling.portable.records import Fields

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

    rows: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    amounts: list[tuple[float, ...]] = field(default_factory=list)

    def add(self, row: int, position: int, *amounts: float) -> None:
        self.rows.append(row)
        self.positions.append(position)
        self.amounts.append(amounts)

    def on(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        amounts = torch.tensor(self.amounts, dtype=torch.float64, device=device)
        return torch.tensor(self.rows, device=device), torch.tensor(self.positions, device=device), amounts


class Adjuster:
    """Applies mask, bias and penalties to the logits of a group."""

    def __init__(self, records: NDArray[np.void], width: int, ids: list[NDArray[np.int64]] | None) -> None:
        """Read the lists. Args: records, ROW[B]; width, W; ids of the candidates of each row, ascending, or None."""
        self.rest = records["rest_logsumexp"].copy()
        """float64[B]: ln of the rest's mass after the adjustments; NaN = unknown; -inf = none."""
        self.undecided = np.zeros(len(records), bool)
        """bool[B]: the rest may have been raised, so that nothing can be said."""
        self._ids = ids
        self._allowed: NDArray[np.bool_] | None = None
        self._bias, self._penalties, self._dry = _Entries(), _Entries(), _Entries()
        for row, record in enumerate(records):
            if record["has_allowed_tokens"] or record["has_token_bitmask"]:
                if self._allowed is None:
                    self._allowed = np.ones((len(records), width), bool)
                self._mask(row, record, self._allowed)
            if record["bias_ids_len"]:
                self._add_bias(row, record)
            if record["history_len"]:
                self._add_penalties(row, record)

    def apply(self, logits: Tensor) -> tuple[Tensor, dict[Step, Tensor]]:
        """Adjust logits float64[B, W]; also returns the largest of each row, float64[B, 1], after each step."""
        largest: dict[Step, Tensor] = {}
        device = logits.device
        if self._allowed is not None:
            logits = logits.masked_fill(~torch.from_numpy(self._allowed).to(device), _NEVER)
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

    def _mask(self, row: int, record: np.void, allowed: NDArray[np.bool_]) -> None:
        is_allowed = np.zeros(int(record["vocab_size"]), bool)
        if record["has_allowed_tokens"]:
            is_allowed[read_ids(record, "allowed_tokens", "allowed_tokens_len")] = True
        if record["has_token_bitmask"]:
            words = read_bytes(int(record["token_bitmask"]), 4 * int(record["token_bitmask_len"]))
            bits = np.unpackbits(words, bitorder="little")[: len(is_allowed)].view(bool)
            is_allowed[: len(bits)] |= bits
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
        for token, amount in zip(read_ids(record, "bias_ids", "bias_ids_len").tolist(), values.tolist(), strict=True):
            self._put(self._bias, row, token, (amount,), change=amount)

    def _add_penalties(self, row: int, record: np.void) -> None:
        history = read_ids(record, "history", "history_len")
        repetition, presence = float(record["repetition_penalty"]), float(record["presence_penalty"])
        if has_token_penalties(Fields(record)):
            tokens, counts = np.unique(history, return_counts=True)
            for token, count in zip(tokens.tolist(), counts.tolist(), strict=True):
                often = count * float(record["frequency_penalty"])
                rises = max(1.0 - repetition, -(often + presence))
                change = rises if rises > 0 else min(1.0 - repetition, -(often + presence))
                self._put(self._penalties, row, token, (repetition, often, presence), change=change)
        if record["dry_multiplier"] > 0:
            amounts = dry_penalties(
                history[-int(record["dry_range"]) :].tolist(),  # a range of 0 is all
                multiplier=float(record["dry_multiplier"]),
                base=float(record["dry_base"]),
                allowed_length=int(record["dry_allowed_length"]),
                breakers=set(read_ids(record, "dry_sequence_breakers", "dry_sequence_breakers_len").tolist()),
            )
            for token, amount in amounts.items():
                self._put(self._dry, row, token, (amount,), change=-amount)

    def _put(self, entries: _Entries, row: int, token: int, amounts: tuple[float, ...], *, change: float) -> None:
        """Note amounts for a token; where it was not sent, note what its `change` does to the rest."""
        position = token
        if self._ids is not None:
            own = self._ids[row]
            position = int(np.searchsorted(own, token))
            if position == len(own) or own[position] != token:
                if self.rest[row] != _NEVER and change > 0:
                    self.undecided[row] = True
                elif change < 0:
                    self._lower_rest(row)
                return
        entries.add(row, position, *amounts)

    def _lower_rest(self, row: int) -> None:
        if self.rest[row] != _NEVER:
            self.rest[row] = np.nan


def _put(logits: Tensor, rows: Tensor, positions: Tensor, new: Tensor, *, forbidden: Tensor | None = None) -> Tensor:
    """Replace logits; what was -inf stays, everything else saturates, and what is `forbidden` becomes -inf."""
    was_never = logits[rows, positions] == _NEVER
    is_never = was_never if forbidden is None else was_never | forbidden
    adjusted = torch.where(is_never, _NEVER, new.clamp(-LARGEST, LARGEST))
    return logits.index_put((rows, positions), adjusted)
