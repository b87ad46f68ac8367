"""The fields of the parameter `dry`, in the order of the contract's DryParams."""

from __future__ import annotations

from samplerd_server.core.enums import Step
from samplerd_server.sampling.parameters.parameter import Parameter, ParamKind, Range

__all__ = ["DRY"]

_COUNT = Range(0, 2**32 - 1)

DRY: tuple[Parameter, ...] = (
    Parameter(
        name="multiplier",
        kind=ParamKind.FLOAT,
        step=Step.PENALTIES,
        help="Strength of DRY: a repeat of n tokens costs multiplier x base^(n - allowed_length); 0 turns DRY off.",
        metavar="X",
        default=0.0,
        off=0.0,
        range=Range(0.0, high_is_open=True),
        changes_argmax=True,
    ),
    Parameter(
        name="base",
        kind=ParamKind.FLOAT,
        step=Step.PENALTIES,
        help="Growth of the DRY penalty for each token of the repeat; 1.75 by default.",
        metavar="X",
        default=1.75,
        range=Range(1.0, high_is_open=True),
        changes_argmax=True,
    ),
    Parameter(
        name="allowed_length",
        kind=ParamKind.INTEGER,
        step=Step.PENALTIES,
        help="Length of the longest repeat that DRY does not penalise; 2 by default.",
        metavar="N",
        default=2,
        range=_COUNT,
        changes_argmax=True,
    ),
    Parameter(
        name="range",
        kind=ParamKind.INTEGER,
        step=Step.PENALTIES,
        help="How many of the last tokens of history DRY looks at; 0, the default, means all.",
        metavar="N",
        default=0,
        range=_COUNT,
        changes_argmax=True,
    ),
    Parameter(
        name="sequence_breakers",
        kind=ParamKind.IDS,
        step=Step.PENALTIES,
        help="Tokens at which DRY ends a repeat.",
        metavar="ID,..",
        changes_argmax=True,
    ),
    Parameter(
        name="breaker_sequences",
        kind=ParamKind.SEQUENCES,
        step=Step.PENALTIES,
        help="Sequences of tokens at which DRY ends a repeat.",
        metavar="ID,..;..",
        changes_argmax=True,
    ),
    Parameter(
        name="allow_no_repeat",
        kind=ParamKind.FLAG,
        step=Step.PENALTIES,
        help="Take allowed_length as 0, where a 0 sent as such means 2: DRY then penalises even a repeat of no token.",
        metavar="",
        changes_argmax=True,
    ),
)
