"""What a reply says beside its samples, held against the float64 reference: log-probabilities, ranks and the rest."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from samplerd_client.samplerctl.flag_values import InputError
from samplerd_client.samplerctl.reference import LogprobKind, RowErrorReason, next_states, successive

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from samplerd.v1 import sampler_pb2 as pb
    from samplerd_client.samplerctl.reference import RowReplay, SampleRequest

__all__ = ["TOLERANCE", "compare", "from_raw"]

TOLERANCE = 1e-4
"""By how much a number of a reply may differ, absolutely or of itself: servers compute log-probabilities in float32."""


def from_raw(data: bytes, kind: str, name: str) -> NDArray[Any]:
    """Return the numbers of a field of bytes.

    Raises:
        InputError: the last one is cut off; the message names the field.

    """
    if len(data) % 4:
        raise InputError(f"{name}: the reply has {len(data)} bytes, which is no multiple of 4")
    return np.frombuffer(data, kind)


def compare(
    request: SampleRequest, reply: pb.SampleResponse, rows: Sequence[RowReplay], samples: NDArray[np.int64]
) -> dict[str, str]:
    """Return what is wrong with each field of the reply that says or should say something; "" = nothing.

    Args:
        request: what was asked for.
        reply: the whole reply.
        rows: the replay of each row.
        samples: int64[B, S], the samples of the reply. Outputs of a row are passed over if one of its samples does not
            follow.

    Raises:
        InputError: bytes of the reply are no numbers.

    """
    failed = {number: int(row.outcome.reason) for number, row in enumerate(rows) if _has_failed(row)}
    found = {error.row: int(error.reason) for error in reply.row_errors}
    is_sound = [
        found[number] == failed.get(number) if number in found else number not in failed and bool(row.follows.all())
        for number, row in enumerate(rows)
    ]
    results = {"row_errors": "" if found == failed else _row_errors(found, failed)} if found or failed else {}
    for name, due, got in _fields(request, reply, rows, samples):
        if np.size(due) or np.size(got):
            results[name] = _compare(np.asarray(due, np.float64), np.asarray(got, np.float64), is_sound)
    return results


def _row_errors(found: dict[int, int], failed: dict[int, int]) -> str:
    def names(errors: dict[int, int]) -> str:
        names = {int(own): own.name for own in RowErrorReason}
        return ", ".join(f"row {row} {names.get(reason, reason)}" for row, reason in errors.items()) or "none"

    return f"the reply has {names(found)}; due is {names(failed)}"


def _compare(due: NDArray[np.float64], got: NDArray[np.float64], is_sound: Sequence[bool]) -> str:
    if got.size != due.size:
        return f"{got.size} numbers, where {due.size} are due"
    got = got.reshape(due.shape)
    with np.errstate(invalid="ignore"):
        near = np.abs(got - due) <= TOLERANCE * np.maximum(1.0, np.abs(due))
    same = near | (got == due) | (np.isnan(got) & np.isnan(due))
    if due.ndim and len(due) == len(is_sound):
        same[~np.array(is_sound)] = True
    wrong = np.argwhere(~same)
    if not len(wrong):
        return ""
    at = tuple(int(index) for index in wrong[0])
    return f"{list(at)} is {got[at]:.7g}, where {due[at]:.7g} is due; {len(wrong)} of {due.size} differ"


def _fields(
    request: SampleRequest, reply: pb.SampleResponse, rows: Sequence[RowReplay], samples: NDArray[np.int64]
) -> Iterator[tuple[str, Any, Any]]:
    """Yield each field's name, what is due in it, [B, ..], and what it has."""
    outputs = request.outputs
    given = {own.kind: own for own in reply.logprobs}
    for kind in LogprobKind:
        name, own = f"logprobs[{kind.name}]", given.get(int(kind))  # type: ignore[call-overload]  # the stub's own enum
        if kind not in outputs.logprobs and own is None:
            continue
        is_due = kind in outputs.logprobs
        drawn: Any = () if own is None else own.samples
        if own is not None and outputs.raw_samples:
            drawn = from_raw(own.raw_samples, "<f4", f"{name}.raw_samples")
        yield f"{name}.samples", _logprobs(request, rows, samples, kind) if is_due else [], drawn
        tops = [_top(row, kind, outputs.top_n) for row in rows] if is_due and outputs.top_n else []
        yield f"{name}.top_ids", [ids for ids, _ in tops], [] if own is None else own.top_ids
        yield f"{name}.top", [values for _, values in tops], [] if own is None else own.top
        named: Any = outputs.logprob_ids if is_due and outputs.logprob_ids is not None else []
        yield f"{name}.named", [_named(row, kind, named) for row in rows], [] if own is None else own.named
    ranks = [_ranks(row, own) for row, own in zip(rows, samples, strict=True)] if outputs.rank else []
    yield "ranks", ranks, reply.ranks
    entropies = {own.kind: own for own in reply.entropies}
    for kind in LogprobKind:
        nats = entropies.get(int(kind))  # type: ignore[call-overload]  # the stub's own enum
        due = [math.nan if _has_failed(row) else row.outcome.distributions[kind].entropy() for row in rows]
        yield f"entropies[{kind.name}]", due if kind in outputs.entropy else [], [] if nats is None else nats.nats
    for field, unknown in (("logprobs", given.keys()), ("entropies", entropies.keys())):
        for number in sorted(set(unknown) - set(map(int, LogprobKind))):
            yield f"{field}[{number}]", [], [number]  # nothing is due of a kind that nobody can ask for
    yield "kept_count", [row.outcome.kept_count for row in rows] if outputs.kept else [], reply.kept_count
    yield "kept_mass", [row.outcome.kept_mass for row in rows] if outputs.kept else [], reply.kept_mass
    sums, weights = _states(request, rows) if outputs.adaptive_state else (np.empty(0), np.empty(0))
    yield "adaptive_weighted_sum", sums, reply.adaptive_weighted_sum
    yield "adaptive_total_weight", weights, reply.adaptive_total_weight


def _has_failed(row: RowReplay) -> bool:
    return row.outcome.reason is not RowErrorReason.NONE


def _logprobs(
    request: SampleRequest, rows: Sequence[RowReplay], samples: NDArray[np.int64], kind: LogprobKind
) -> list[list[float]]:
    due = []
    for row, drawn in zip(rows, samples.tolist(), strict=True):
        if _has_failed(row) or not row.follows.all():
            due.append([math.nan] * len(drawn))
        elif request.with_replacement:
            own = row.outcome.distributions[kind]
            by_id = {token: own.of(token) for token in set(drawn)}
            due.append([by_id[token] for token in drawn])
        else:
            is_certain = kind is LogprobKind.PROCESSED and row.params.is_greedy
            due.append(successive(row.outcome.distributions[kind], drawn, is_certain=is_certain))
    return due


def _top(row: RowReplay, kind: LogprobKind, count: int) -> tuple[list[int], list[float]]:
    return ([-1] * count, [math.nan] * count) if _has_failed(row) else row.outcome.top(kind, count)


def _named(row: RowReplay, kind: LogprobKind, ids: Any) -> list[float]:
    return [math.nan if _has_failed(row) else row.outcome.distributions[kind].of(int(token)) for token in ids]


def _ranks(row: RowReplay, drawn: NDArray[np.int64]) -> list[int]:
    places = {int(token): place for place, token in enumerate(row.outcome.order, 1)}
    return [0 if _has_failed(row) else places.get(int(token), 0) for token in drawn]


def _states(request: SampleRequest, rows: Sequence[RowReplay]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    unshaped = np.array([p for row in rows for p in row.outcome.unshaped or [math.nan] * request.num_samples])
    sums, weights = next_states(request.params, unshaped, np.array([_has_failed(row) for row in rows]))
    return sums.reshape(len(rows), -1), weights.reshape(len(rows), -1)
