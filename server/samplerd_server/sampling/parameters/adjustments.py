"""The parameters that adjust logits before the filters, in the order of the contract: penalties, biases and masks."""

from __future__ import annotations

from samplerd_server.core.enums import Step
from samplerd_server.sampling.parameters.dry import DRY
from samplerd_server.sampling.parameters.parameter import Parameter, ParamKind, Range

__all__ = ["ADJUSTMENTS"]

_POSITIVE = Range(0.0, low_is_open=True, high_is_open=True)
_FINITE = Range(low_is_open=True, high_is_open=True)
_LOWERS = "with top_k, min_p or T = 0 if it can only lower what was not sent, else never"

ADJUSTMENTS: tuple[Parameter, ...] = (
    Parameter(
        name="repetition_penalty",
        kind=ParamKind.FLOAT,
        step=Step.PENALTIES,
        help="Divide positive and multiply other logits of the tokens in history by this; 1 turns it off.",
        metavar="X",
        default=1.0,
        off=1.0,
        range=_POSITIVE,
        changes_argmax=True,
        decided_with_candidates=_LOWERS,
        source="Keskar et al., 2019",
    ),
    Parameter(
        name="frequency_penalty",
        kind=ParamKind.FLOAT,
        step=Step.PENALTIES,
        help="Subtract this from a token's logit for each time that it occurs in history; 0 turns it off.",
        metavar="X",
        default=0.0,
        off=0.0,
        range=_FINITE,
        changes_argmax=True,
        decided_with_candidates=_LOWERS,
        source="OpenAI",
    ),
    Parameter(
        name="presence_penalty",
        kind=ParamKind.FLOAT,
        step=Step.PENALTIES,
        help="Subtract this once from the logit of every token that occurs in history; 0 turns it off.",
        metavar="X",
        default=0.0,
        off=0.0,
        range=_FINITE,
        changes_argmax=True,
        decided_with_candidates=_LOWERS,
        source="OpenAI",
    ),
    Parameter(
        name="dry",
        kind=ParamKind.GROUP,
        step=Step.PENALTIES,
        help="Penalise tokens that would continue a repetition of history (DRY: don't repeat yourself).",
        metavar="DRY",
        changes_argmax=True,
        decided_with_candidates=_LOWERS,
        source="llama.cpp",
        fields=DRY,
    ),
    Parameter(
        name="history",
        kind=ParamKind.IDS,
        step=Step.PENALTIES,
        help="The tokens so far, oldest first: what the penalties look at.",
        metavar="ID,..",
        changes_argmax=True,
    ),
    Parameter(
        name="logit_bias",
        kind=ParamKind.LOGIT_BIAS,
        step=Step.BIAS,
        help="Add an amount to the logit of each of these tokens; -inf forbids the token.",
        metavar="ID:B,..",
        changes_argmax=True,
        decided_with_candidates=_LOWERS,
    ),
    Parameter(
        name="allowed_tokens",
        kind=ParamKind.IDS,
        step=Step.MASK,
        help="Allow only these tokens to be drawn.",
        metavar="ID,..",
        changes_argmax=True,
        decided_with_candidates="if it allows all of what was not sent, or none of it; else with top_k, min_p or T = 0",
    ),
    Parameter(
        name="token_bitmask",
        kind=ParamKind.BITMASK,
        step=Step.MASK,
        help="Allow token j to be drawn only if bit j mod 32 of int32 word j div 32 is set.",
        metavar="HEX",
        excludes="allowed_tokens",
        changes_argmax=True,
        decided_with_candidates="as allowed_tokens",
    ),
)
