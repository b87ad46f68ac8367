"""The audits of VerifyDraft: replay its verdicts, and compare the tokens that it returns with the target's law."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np

from samplerd_client.errors import NotImplementedFieldError
from samplerd_client.replay import masses, verdict_follows
from samplerd_client.samplerctl.audits import Auditor, Outcome

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["DRAFTS"]

_LENGTH = 4
"""Drafted tokens of a replayed draft."""
_REPLAYED = 200
"""Few, since verifying takes a row's work for each token, and a single wrong verdict fails the audit."""
_MAX_DRAFTS = 10_000
"""Each draft is a request of its own."""
_IN_FLIGHT = 256
_TREES = "VerifyDraftRequest.parents"
_PARENTS = [-1, -1, 0, 1]
"""Of a replayed tree."""

_TARGET = np.array([[1.0, 2.0, 0.5, 1.5], [0.0, -1.0, 1.0, 0.5]], dtype=np.float32)
_TEMPERATURE = 0.7
_DRAFT = np.array([0.4, 0.1, 0.3, 0.2])
"""Its law has a total variation distance of about 0.5 from that of the target's first row."""


async def drafts_can_be_replayed(auditor: Auditor) -> Outcome:
    """Recompute verdicts, of chains and trees, with and without rows of the draft, from rows, tokens and seed."""
    _require(auditor, "VerifyDraft")
    has_trees = _TREES in auditor.info.capabilities
    number = min(_REPLAYED, auditor.draws)
    wrong = tokens = accepted = 0
    async with auditor.client.verify_stream(max_in_flight=_IN_FLIGHT) as stream:
        for index in range(number):
            generator = np.random.default_rng((auditor.seed, 3, index))
            target = np.stack([auditor.row(8 * index + position) for position in range(_LENGTH + 1)])
            temperature = (1.0, 0.7, 3.0)[index % 3]
            law = np.stack([masses(row, temperature) for row in target])
            if index % 2:
                weights = (law[:-1] * np.exp(0.5 * generator.standard_normal(law[:-1].shape))).astype(np.float32)
                draft = weights / weights.sum(axis=1, keepdims=True, dtype=np.float64)
                ids = [int(generator.choice(len(row), p=row)) for row in draft]
            else:
                weights, ids = None, law[:-1].argmax(axis=1).tolist()
                draft = np.eye(auditor.vocab_size)[ids]
            parents = _PARENTS if has_trees and index % 4 > 1 else None
            seed = auditor.key(3000 + index)
            result = await stream.verify(
                target, ids, weights, parents=parents, temperature=temperature, seed=seed, draw_offset=index
            )
            path = result.path.tolist()
            wrong += not verdict_follows(
                result.samples, law, ids, draft, seed=seed, draw_offset=index, parents=parents, path=path
            )
            tokens += len(result.samples)
            accepted += result.accepted
    detail = f"{wrong} of {number} wrong, {accepted} of {_LENGTH * number} tokens accepted"
    return Outcome(is_ok=wrong == 0, draws=tokens, detail=detail)


async def drafts_fit(auditor: Auditor) -> Outcome:
    """Verify drafts of a law that is not the target's: their first tokens fit the target's all the same."""
    _require(auditor, "VerifyDraft")
    number = min(auditor.draws, _MAX_DRAFTS)
    drafted = np.random.default_rng((auditor.seed, 4)).choice(4, size=number, p=_DRAFT).tolist()
    counts = np.zeros(4, dtype=np.int64)
    accepted = 0
    async with auditor.client.verify_stream(max_in_flight=_IN_FLIGHT) as stream:
        for start in range(0, number, _IN_FLIGHT):
            results = await asyncio.gather(
                *(
                    stream.verify(_TARGET, [token], _DRAFT, temperature=_TEMPERATURE, seed=auditor.key(4000 + at))
                    for at, token in enumerate(drafted[start : start + _IN_FLIGHT], start)
                )
            )
            counts += np.bincount([result.raise_for_rows().samples[0] for result in results], minlength=4)
            accepted += sum(result.accepted for result in results)
    return auditor.judge(counts, masses(_TARGET[0], _TEMPERATURE), f"{accepted} accepted")


async def trees_fit(auditor: Auditor) -> Outcome:
    """Verify two tokens that may come next, drawn without replacement: the one that comes fits the target's law."""
    _require(auditor, _TREES)
    number = min(auditor.draws, _MAX_DRAFTS)
    generator = np.random.default_rng((auditor.seed, 5))
    pairs = [generator.choice(4, size=2, replace=False, p=_DRAFT).tolist() for _ in range(number)]
    counts = np.zeros(4, dtype=np.int64)
    accepted = 0
    async with auditor.client.verify_stream(max_in_flight=_IN_FLIGHT) as stream:
        for start in range(0, number, _IN_FLIGHT):
            results = await asyncio.gather(
                *(
                    stream.verify(
                        _TARGET[[0, 1, 1]],
                        pair,
                        [_DRAFT, np.where(np.arange(4) == pair[0], 0.0, _DRAFT)],
                        parents=[-1, -1],
                        temperature=_TEMPERATURE,
                        seed=auditor.key(5000 + at),
                    )
                    for at, pair in enumerate(pairs[start : start + _IN_FLIGHT], start)
                )
            )
            counts += np.bincount([result.raise_for_rows().samples[0] for result in results], minlength=4)
            accepted += sum(result.accepted for result in results)
    return auditor.judge(counts, masses(_TARGET[0], _TEMPERATURE), f"{accepted} accepted")


def _require(auditor: Auditor, capability: str) -> None:
    if capability not in auditor.info.capabilities:
        raise NotImplementedFieldError(f"{capability} is not implemented by this server")


DRAFTS: tuple[tuple[str, Callable[[Auditor], Awaitable[Outcome]]], ...] = (
    ("drafts can be replayed", drafts_can_be_replayed),
    ("verified drafts fit", drafts_fit),
    ("verified trees fit", trees_fit),
)
"""Name and audit, in the order of the table."""
