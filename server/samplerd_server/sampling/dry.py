"""The DRY penalty: how much each token loses because it would continue a repetition of the history.

Law. For every earlier place of the history where its last n tokens stand as well, the token that followed there would
make the repeat one longer. With n the longest such repeat for a token, and n >= allowed_length, its logit loses
``multiplier x base^(n - allowed_length)``, at most the largest float32. A repeat never reaches past a sequence breaker,
and a breaker is never penalised.

Source: p-e-w's DRY for text-generation-webui (2024), and llama.cpp's ``llama_sampler_dry_apply``, which counts n the
same way. Rule 1: plain Python on the host, linear in the history (Gusfield's Z array of the reversed history).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

__all__ = ["LARGEST", "dry_penalties", "repeat_lengths"]

LARGEST = 3.4028234663852886e38
"""The largest float32: where adjustments saturate."""


def repeat_lengths(tokens: Sequence[int]) -> list[int]:
    """For every i, the length of the longest common prefix of ``tokens`` and ``tokens[i:]`` (the Z array; z[0] = 0)."""
    length = len(tokens)
    z = [0] * length
    left = right = 0
    for i in range(1, length):
        if i < right:
            z[i] = min(right - i, z[i - left])
        while i + z[i] < length and tokens[z[i]] == tokens[i + z[i]]:
            z[i] += 1
        if i + z[i] > right:
            left, right = i, i + z[i]
    return z


def dry_penalties(
    history: Sequence[int],
    *,
    multiplier: float,
    base: float,
    allowed_length: int,
    breakers: AbstractSet[int],
) -> dict[int, float]:
    """Compute what each token's logit loses.

    Args: history, the tokens that are looked at, oldest first; the others as in the proto's DryParams. Returns positive
    amounts by token.
    """
    backwards = list(reversed(history))
    reach = next((at for at, token in enumerate(backwards) if token in breakers), len(backwards))
    longest: dict[int, int] = {}
    for i, length in enumerate(repeat_lengths(backwards)):
        repeat = min(length, reach)
        if i > 0 and repeat >= allowed_length:
            follower = backwards[i - 1]
            longest[follower] = max(longest.get(follower, 0), repeat)
    return {
        token: _amount(multiplier, base, repeat - allowed_length)
        for token, repeat in longest.items()
        if token not in breakers
    }


def _amount(multiplier: float, base: float, exponent: int) -> float:
    try:
        return min(multiplier * base**exponent, LARGEST)
    except OverflowError:
        return LARGEST
