"""The DRY penalty: how much each token loses because it would continue a repetition of the history.

Law. For every earlier place of the history where its last n tokens stand as well, the token that followed there would
make the repeat one longer. With n the longest such repeat for a token, and n >= allowed_length, its logit loses
``multiplier x base^(n - allowed_length)``, at most the largest float32. A repeat never reaches past a breaker: a token,
or a sequence of tokens. Of several breakers in the history the one counts that begins last; of those that begin at the
same place, the longest. A breaker of one token is never penalised.

Source: p-e-w's DRY for text-generation-webui (2024), and llama.cpp's ``llama_sampler_dry_apply``, which counts n and
finds breakers the same way. Rule 1: plain Python on the host, linear in the history and the breakers (Gusfield's Z
array of the reversed history; Aho and Corasick, 1975, for the breakers). Rule 2: base^k is multiplied out by squaring,
as compiled code does, so that both lose the same to the last bit.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

__all__ = ["LARGEST", "dry_penalties", "power", "repeat_lengths", "tokens_after_breaker"]

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


def tokens_after_breaker(
    backwards: Sequence[int], single: AbstractSet[int], sequences: Sequence[Sequence[int]] = ()
) -> int:
    """Count the tokens after the breaker that begins last; all, if there is none.

    Args:
        backwards: the history, newest token first.
        single: breakers of one token.
        sequences: breakers of several tokens, oldest first.

    """
    reach = next((at for at, token in enumerate(backwards) if token in single), len(backwards))
    return _tokens_after_sequence(backwards, sequences, reach) if sequences else reach


def _tokens_after_sequence(backwards: Sequence[int], breakers: Sequence[Sequence[int]], reach: int) -> int:
    """Do what `tokens_after_breaker` does for breakers of several tokens; `reach` is what those of one token leave."""
    children: list[dict[int, int]] = [{}]
    longest = [0]  # of the breakers that begin where a node of the tree was reached
    for breaker in breakers:
        node = 0
        for token in reversed(breaker):
            if token not in children[node]:
                children[node][token] = len(children)
                children.append({})
                longest.append(0)
            node = children[node][token]
        longest[node] = len(breaker)
    shorter = [0] * len(children)  # the node of the longest end of what a node stands for

    def follow(node: int, token: int) -> int:
        while node and token not in children[node]:
            node = shorter[node]
        return children[node].get(token, 0)

    queue = deque(children[0].values())
    while queue:
        node = queue.popleft()
        longest[node] = longest[node] or longest[shorter[node]]
        for token, child in children[node].items():
            shorter[child] = follow(shorter[node], token)
            queue.append(child)
    node = 0
    for at, token in enumerate(backwards[: reach + 1]):
        node = follow(node, token)
        if longest[node]:
            return at + 1 - longest[node]
    return reach


def dry_penalties(
    history: Sequence[int],
    *,
    multiplier: float,
    base: float,
    allowed_length: int,
    breakers: AbstractSet[int],
    sequences: Sequence[Sequence[int]] = (),
) -> dict[int, float]:
    """Compute what each token's logit loses.

    Args:
        history: the tokens that are looked at, oldest first.
        multiplier: > 0, as in the contract's DryParams.
        base: >= 1.
        allowed_length: >= 0.
        breakers: tokens.
        sequences: more breakers, none empty; one of a single token is like those of `breakers`.

    Returns:
        Positive amounts by token.

    """
    backwards = list(reversed(history))
    single = breakers | {own[0] for own in sequences if len(own) == 1}
    reach = tokens_after_breaker(backwards, single, [own for own in sequences if len(own) > 1])
    longest: dict[int, int] = {}
    for i, length in enumerate(repeat_lengths(backwards)):
        repeat = min(length, reach)
        if i > 0 and repeat >= allowed_length:
            follower = backwards[i - 1]
            longest[follower] = max(longest.get(follower, 0), repeat)
    return {
        token: min(multiplier * power(base, repeat - allowed_length), LARGEST)
        for token, repeat in longest.items()
        if token not in single
    }


def power(base: float, exponent: int) -> float:
    """base^exponent by squaring, exponent >= 0; infinite where binary64 is too small for it."""
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result
