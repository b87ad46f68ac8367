"""What becomes of equal categories where a filter cuts, by the parameter `ties` and by filter."""

from __future__ import annotations

from samplerd_server.core.enums import TieRule

__all__ = ["rule_of"]

_NAMED = {
    TieRule.HUGGING_FACE: (
        {"top_p": TieRule.HIGHEST_ID, "top_h": TieRule.LOWEST_ID, "xtc": TieRule.LOWEST_ID},
        TieRule.ALL,
    ),
    TieRule.MLX_LM: ({"top_k": TieRule.LOWEST_ID}, TieRule.ALL),
}
"""Of each rule that is named after a system: the rules of some filters, and that of all others."""


def rule_of(rule: TieRule, name: str) -> TieRule:
    """Find which rule a filter follows: LOWEST_ID, ALL or HIGHEST_ID.

    XTC drops the first of the order that the rule makes: with LOWEST_ID the one that stays of several equals has the
    highest id, with HIGHEST_ID the lowest.
    """
    if rule not in _NAMED:
        return rule
    some, others = _NAMED[rule]
    return some.get(name, others)
