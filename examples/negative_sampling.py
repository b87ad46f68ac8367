"""Negative sampling from real English word frequencies, as word2vec does it.

word2vec trains against words drawn with probability proportional to frequency^(3/4) (Mikolov et al., 2013): rare words
come a little more often than they do in print. samplerd knows this as weights at temperature 4/3, since it draws from
w^(1/T). The frequencies are those of the package wordfreq: some 300,000 words, uploaded once as a distribution with its
temperature fixed, then drawn from by name, a million times, chunk by chunk.

    python -m examples.negative_sampling --draws 1000000
"""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from examples.terminal import bold, dim, table
from samplerd_client import SamplerClient, SamplerdError, SamplingParams

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["TEMPERATURE", "NegativeSampling", "WordFrequencies", "run", "show"]

TEMPERATURE = 4 / 3
"""T with 1 / T = 3/4, word2vec's exponent."""
_SHOWN_RANKS = (1, 2, 3, 10, 100, 1_000, 10_000, 100_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class WordFrequencies:
    """V words and how often each is used, most used first."""

    words: tuple[str, ...]
    frequencies: NDArray[np.float32]
    """float32[V], shares of all running text."""

    @classmethod
    def load(cls, limit: int | None = None) -> WordFrequencies:
        """Read English from wordfreq; `limit` keeps the most frequent."""
        import wordfreq  # noqa: PLC0415  # an extra that only this example needs

        known = wordfreq.get_frequency_dict("en", wordlist="best")
        ordered = sorted(known.items(), key=lambda item: (-item[1], item[0]))[:limit]
        return cls(
            words=tuple(word for word, _ in ordered),
            frequencies=np.array([frequency for _, frequency in ordered], np.float32),
        )

    def expected_shares(self) -> NDArray[np.float64]:
        """float64[V]: what share of all draws each word should get."""
        weights = self.frequencies.astype(np.float64) ** (1 / TEMPERATURE)
        shares: NDArray[np.float64] = weights / weights.sum()
        return shares


@dataclass(frozen=True, slots=True, kw_only=True)
class NegativeSampling:
    """What was drawn."""

    vocabulary: WordFrequencies
    samples: NDArray[np.int32]
    """int32[S], in the order of the draws."""
    elapsed_s: float
    """From the upload to the last sample."""

    def counts(self) -> NDArray[np.int64]:
        """int64[V]: how often each word was drawn."""
        return np.bincount(self.samples, minlength=len(self.vocabulary.words))

    def deviation(self) -> float:
        """Pearson's chi-square against word2vec's law, in standard deviations from its mean.

        Within about 3 of 0 when the draws follow the law. Words that expect fewer than 5 draws are counted as one.
        """
        expected = self.vocabulary.expected_shares() * len(self.samples)
        counts = self.counts()
        often = expected >= 5
        cells_expected = np.append(expected[often], expected[~often].sum())
        cells_counts = np.append(counts[often], counts[~often].sum())
        filled = cells_expected > 0
        chi_square = float(((cells_counts - cells_expected)[filled] ** 2 / cells_expected[filled]).sum())
        freedom = int(filled.sum()) - 1
        return (chi_square - freedom) / math.sqrt(2 * freedom)


async def run(client: SamplerClient, vocabulary: WordFrequencies, *, draws: int, seed: int) -> NegativeSampling:
    """Upload one row of weights, draw many samples from it, and free it."""
    started = time.perf_counter()
    words = await client.create_distribution(
        vocabulary.frequencies, probabilities=True, params=SamplingParams(temperature=TEMPERATURE), ttl_s=60.0
    )
    parts = [chunk.samples async for chunk in client.draw_chunks(distribution=words.name, num_samples=draws, seed=seed)]
    await client.delete_distribution(words.name)
    return NegativeSampling(
        vocabulary=vocabulary, samples=np.concatenate(parts), elapsed_s=time.perf_counter() - started
    )


def show(drawn: NegativeSampling) -> str:
    """Lay out the words drawn most, some of every rank observed against expected, and a few negatives."""
    words = drawn.vocabulary.words
    counts = drawn.counts()
    expected = drawn.vocabulary.expected_shares() * len(drawn.samples)
    most = " ".join(words[index] for index in np.argsort(-counts, kind="stable")[:12])
    rows = [
        [
            words[rank - 1],
            f"{rank:,}",
            f"{drawn.vocabulary.frequencies[rank - 1]:.2e}",
            f"{expected[rank - 1]:,.1f}",
            f"{counts[rank - 1]:,}",
        ]
        for rank in _SHOWN_RANKS
        if rank <= len(words)
    ]
    negatives = [
        f"  {positive:>20}  not  " + ", ".join(words[index] for index in drawn.samples[5 * number : 5 * number + 5])
        for number, positive in enumerate(("coffee → cup", "river → bank", "guitar → string"))
    ]
    return "\n".join(
        [
            f"  drawn most: {most}",
            table(rows, header=["word", "rank", "in print", "expected", "drawn"]),
            dim(f"  chi-square over all words: {drawn.deviation():+.1f} standard deviations from its mean"),
            "  five negatives each for three pairs:",
            *negatives,
        ]
    )


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.negative_sampling",
        description="Draw word2vec's negative samples from real English word frequencies with a running samplerd.",
    )
    parser.add_argument("--address", default="127.0.0.1:50051", help="where samplerd listens (default: %(default)s)")
    parser.add_argument("--draws", type=int, default=1_000_000, help="how many words (default: %(default)s)")
    parser.add_argument("--words", type=int, default=None, help="keep the most frequent (default: all, some 300,000)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed draws the same words (default: %(default)s)")
    return parser.parse_args(argv)


async def _command(args: argparse.Namespace) -> None:
    vocabulary = WordFrequencies.load(args.words)
    async with SamplerClient(args.address) as client:
        drawn = await run(client, vocabulary, draws=args.draws, seed=args.seed)
    print(bold(f"{len(drawn.samples):,} words out of {len(vocabulary.words):,}") + f" in {drawn.elapsed_s:.2f} s")
    print(show(drawn))


def main() -> int:
    """Run the command."""
    args = parse_args()
    try:
        asyncio.run(_command(args))
    except ModuleNotFoundError as error:
        print(f"negative_sampling: {error.name} is missing: install the extra samplerd[examples]", file=sys.stderr)
        return 1
    except SamplerdError as error:
        print(f"negative_sampling: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
