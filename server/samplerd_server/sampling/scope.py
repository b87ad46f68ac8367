"""Where the tokens that a penalty looks at begin in the history: one text for every sampler, and for compiled code.

Every scope and every range leaves out tokens at the beginning of the history, never at its end; so one number says what
is looked at.
"""

from __future__ import annotations

from samplerd_server.core.enums import PenaltyScope

__all__ = ["first_in_scope"]

_OUTPUT = int(PenaltyScope.OUTPUT)


def first_in_scope(length: int, scope: int, prompt_length: int, last: int) -> int:
    """Find the place of the first token that is looked at, in [0, length].

    Args:
        length: how many tokens the history has.
        scope: the number of a `PenaltyScope`.
        prompt_length: how many of the first are the prompt; more than there are means all.
        last: how many of the last tokens are looked at, at most; 0 = all.

    """
    begin = min(prompt_length, length) if scope == _OUTPUT else 0
    return max(begin, length - last) if last > 0 else begin
