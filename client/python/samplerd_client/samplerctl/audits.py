"""The audits of ``samplerctl verify``: each asks a live server one question and judges the answer.

A server that does not implement what an audit needs is not failed for it: the audit is skipped, and says so.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from samplerd_client.errors import NotImplementedFieldError
from samplerd_client.philox import RNG, philox4x32, uniforms
from samplerd_client.replay import follows, masses
from samplerd_client.samplerctl.statistics import chi_square_fit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from numpy.typing import NDArray

    from samplerd_client.client import SamplerClient
    from samplerd_client.info import ServerInfo
    from samplerd_client.options import SampleOptions
    from samplerd_client.result import SampleResult

__all__ = ["AUDITS", "Auditor", "Outcome"]

_KNOWN_ANSWERS = (
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
)
"""Counter, key, output: the test vectors of the authors of Philox."""

_MATES = 48
"""Other rows in the batches of the audited row."""

_SHUFFLES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of an audit."""

    is_ok: bool
    draws: int
    """Number of draws that were examined."""
    detail: str
    p_value: float | None = None
    """Of a statistical audit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Auditor:
    """The connection and settings that all audits share."""

    client: SamplerClient
    info: ServerInfo
    draws: int
    vocab_size: int
    alpha: float
    seed: int

    def row(self, number: int) -> NDArray[np.float32]:
        """Return float32[V]: the audit's row of this number."""
        generator = np.random.default_rng((self.seed, number))
        return (2.0 * generator.standard_normal(self.vocab_size)).astype(np.float32)

    def key(self, number: int) -> int:
        """Return the audit's 64-bit seed of this number."""
        return int(np.random.default_rng((self.seed, 1, number)).integers(0, 2**64, dtype=np.uint64))

    def judge(self, counts: NDArray[Any], law: NDArray[np.float64], what: str) -> Outcome:
        """Judge counts by the chi-square test."""
        fit = chi_square_fit(counts, law)
        detail = f"{what}, chi-square {fit.statistic:.1f}, df {fit.degrees}"
        return Outcome(is_ok=fit.p_value >= self.alpha, draws=int(counts.sum()), detail=detail, p_value=fit.p_value)


async def noise_is_philox(auditor: Auditor) -> Outcome:
    """Compare this Philox with the published test vectors, and the generator that the server names with it."""
    wrong = sum(
        philox4x32(np.array([counter], dtype=np.uint32), key)[0].tolist() != list(output)
        for counter, key, output in _KNOWN_ANSWERS
    )
    theirs = auditor.info.rng
    named = "" if theirs == RNG else f", but the server draws with {theirs or 'a noise without a name'}"
    return Outcome(is_ok=wrong == 0 and not named, draws=0, detail=f"{3 - wrong} of 3 known answers{named}")


async def draws_can_be_replayed(auditor: Auditor) -> Outcome:
    """Recompute every draw from its row, its seed and its index."""
    cases = [(temperature, number) for number, temperature in enumerate((1.0, 0.7, 0.1, 3.0))]
    width = max(1, auditor.draws // len(cases))
    wrong = rounded = 0
    for temperature, number in cases:
        row, seed, offset = auditor.row(number), auditor.key(number), 1000 * number
        result = await auditor.client.sample(
            row, temperature=temperature, num_samples=width, seed=seed, draw_offset=offset
        )
        law = masses(row, temperature)
        noise = uniforms(seed, width, draw_offset=offset)
        wrong += int(np.count_nonzero(~follows(result.samples[0], law, noise)))
        exact = np.searchsorted(np.cumsum(law), noise, side="right")
        rounded += int(np.count_nonzero(exact != result.samples[0]))
    detail = f"{wrong} wrong, {rounded - wrong} within rounding of a boundary"
    return Outcome(is_ok=wrong == 0, draws=width * len(cases), detail=detail)


async def rows_have_noise_of_their_own(auditor: Auditor) -> Outcome:
    """Check that rows draw by row index under one seed, and as row 0 under row_seeds."""
    rows = np.stack([auditor.row(number) for number in range(8)])
    keys = [auditor.key(number) for number in range(8)]
    shared = (await auditor.client.sample(rows, num_samples=16, seed=keys[0])).samples
    single = (await auditor.client.sample(rows, num_samples=16, row_seeds=keys)).samples
    wrong = 0
    for index, row in enumerate(rows):
        law = masses(row)
        wrong += int(np.count_nonzero(~follows(shared[index], law, uniforms(keys[0], 16, row=index))))
        wrong += int(np.count_nonzero(~follows(single[index], law, uniforms(keys[index], 16))))
    return Outcome(is_ok=wrong == 0, draws=2 * 8 * 16, detail=f"{wrong} wrong")


async def seeds_repeat(auditor: Auditor) -> Outcome:
    """Repeat a draw with the seed that the server chose; check that it chooses another one next time."""
    row = auditor.row(0)
    one = await auditor.client.sample(row, num_samples=64)
    two = await auditor.client.sample(row, num_samples=64)
    again = await auditor.client.sample(row, num_samples=64, seed=one.seed)
    repeats = np.array_equal(one.samples, again.samples)
    differ = one.seed != two.seed
    detail = f"{'repeated' if repeats else 'NOT repeated'}, unseeded ones {'differ' if differ else 'SHARE A SEED'}"
    return Outcome(is_ok=repeats and differ, draws=192, detail=detail)


async def sequences_can_be_split(auditor: Auditor) -> Outcome:
    """Take draws 0..99 in one request, and 0..36 and 37..99 in two."""
    row, seed = auditor.row(0), auditor.key(0)
    whole = (await auditor.client.sample(row, num_samples=100, seed=seed)).samples[0]
    head = (await auditor.client.sample(row, num_samples=37, seed=seed)).samples[0]
    tail = (await auditor.client.sample(row, num_samples=63, seed=seed, draw_offset=37)).samples[0]
    wrong = int(np.count_nonzero(whole != np.concatenate([head, tail])))
    return Outcome(is_ok=wrong == 0, draws=200, detail=f"{wrong} differ")


async def other_rows_change_nothing(auditor: Auditor) -> Outcome:
    """Draw a row alone, at several places in a request, and in batches with other requests, in shuffled order."""
    generator = np.random.default_rng((auditor.seed, 2))
    mates = np.stack([auditor.row(number) for number in range(_MATES)])
    keys = [auditor.key(number) for number in range(_MATES)]
    options = await _richest_options(auditor)
    client = auditor.client
    mine: SampleOptions = {**options, "row_seeds": keys[:1]}
    alone = await client.sample(mates[0], **mine)
    differ, largest = 0, 0
    for _ in range(_SHUFFLES):
        order = generator.permutation(_MATES)
        everyone: SampleOptions = {**options, "row_seeds": [keys[index] for index in order]}
        result = await client.sample(mates[order], **everyone)
        differ += not _is_same(result, int(np.flatnonzero(order == 0)[0]), alone)
        largest = max(largest, result.timing.batch_rows)
    async with client.stream() as stream:
        for _ in range(_SHUFFLES):
            order = generator.permutation(_MATES)
            strangers = [
                asyncio.create_task(
                    stream.sample(
                        np.repeat(mates[index : index + 1], 1 + index % 3, axis=0),
                        num_samples=1 + int(index),
                        temperature=float(index % 5),
                    )
                    if index
                    else stream.sample(mates[0], **mine)
                )
                for index in order
            ]
            results = await asyncio.gather(*strangers)
            ours = results[int(np.flatnonzero(order == 0)[0])]
            differ += not _is_same(ours, 0, alone)
            largest = max(largest, ours.timing.batch_rows)
    detail = f"{differ} of {2 * _SHUFFLES} differ, batches of up to {largest} rows"
    return Outcome(is_ok=differ == 0, draws=2 * _SHUFFLES * alone.samples.size, detail=detail)


async def _richest_options(auditor: Auditor) -> SampleOptions:
    """Return parameters and outputs that exercise as much of the pipeline as this server has."""
    options: SampleOptions = {"num_samples": 32, "temperature": 0.9}
    if {"SamplingParams.top_k", "SamplingParams.top_p"} <= auditor.info.capabilities:
        options |= {"top_k": 50, "top_p": 0.95}
    with_logprobs: SampleOptions = {**options, "logprobs": ("raw", "processed")}
    try:
        await auditor.client.sample(auditor.row(0), **with_logprobs)
    except NotImplementedFieldError:
        return options
    return with_logprobs


def _is_same(result: SampleResult, row: int, alone: SampleResult) -> bool:
    """Tell whether a row drew the same, to the last bit of its log-probabilities."""
    return np.array_equal(result.samples[row], alone.samples[0]) and all(
        values[row].tobytes() == alone.logprobs[kind][0].tobytes() for kind, values in result.logprobs.items()
    )


async def bad_rows_fail_alone(auditor: Auditor) -> Outcome:
    """Send rows with NaN, +inf and only -inf among good ones, which must draw as they do without them."""
    good = np.stack([auditor.row(number) for number in range(4)])
    bad = np.full((3, auditor.vocab_size), -np.inf, dtype=np.float32)
    bad[0, :], bad[0, 0] = 0.0, np.nan
    bad[1, :], bad[1, -1] = 0.0, np.inf
    keys = [auditor.key(number) for number in range(7)]
    mixed = np.stack([good[0], bad[0], good[1], bad[1], bad[2], good[2], good[3]])
    places = [0, 2, 5, 6]
    result = await auditor.client.sample(mixed, num_samples=16, row_seeds=keys)
    clean = await auditor.client.sample(good, num_samples=16, row_seeds=[keys[place] for place in places])
    failed = [error.row for error in result.row_errors]
    same = np.array_equal(result.samples[places], clean.samples)
    is_ok = failed == [1, 3, 4] and same and bool((result.samples[failed] == -1).all())
    detail = f"{failed} of [1, 3, 4] failed, others {'unchanged' if same else 'CHANGED'}"
    return Outcome(is_ok=is_ok, draws=2 * 4 * 16, detail=detail)


async def zero_is_argmax(auditor: Auditor) -> Outcome:
    """Draw at T = 0: the argmax, ties to the lowest id."""
    rows = np.stack([auditor.row(number) for number in range(16)])
    rows[8:] = np.round(rows[8:])  # many ties
    result = await auditor.client.sample(rows, temperature=0.0, num_samples=4)
    wrong = int(np.count_nonzero(result.samples != rows.argmax(axis=1)[:, None]))
    return Outcome(is_ok=wrong == 0, draws=64, detail=f"{wrong} wrong")


AUDITS: tuple[tuple[str, Callable[[Auditor], Awaitable[Outcome]]], ...] = (
    ("noise is the published Philox", noise_is_philox),
    ("draws can be replayed", draws_can_be_replayed),
    ("rows have their own noise", rows_have_noise_of_their_own),
    ("seeds repeat", seeds_repeat),
    ("sequences can be split", sequences_can_be_split),
    ("other rows change nothing", other_rows_change_nothing),
    ("bad rows fail alone", bad_rows_fail_alone),
    ("temperature 0 is argmax", zero_is_argmax),
)
"""Name and audit, in the order of the table."""
