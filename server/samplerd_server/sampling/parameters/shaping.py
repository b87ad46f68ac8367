"""The parameters that shape the distribution and cut nothing off, in the contract's order: of the draw, of step 6."""

from __future__ import annotations

from samplerd_server.core.enums import Step
from samplerd_server.sampling.parameters.parameter import Parameter, ParamKind, Range

__all__ = ["SHAPING"]

_SHARE = Range(0.0, 1.0)
_NOT_NEGATIVE = Range(0.0, high_is_open=True)
_POSITIVE = Range(0.0, low_is_open=True, high_is_open=True)

SHAPING: tuple[Parameter, ...] = (
    Parameter(
        name="adaptive_target",
        kind=ParamKind.FLOAT,
        step=Step.DRAW,
        help="Prefer tokens near a moving probability, which draws the mean probability of the tokens towards this; "
        "0 turns it off.",
        metavar="P",
        default=0.0,
        off=0.0,
        range=_SHARE,
        excludes="skew",
        changes_argmax=True,
        decided_with_candidates="after a filter dropped what was not sent",
        source="llama.cpp",
    ),
    Parameter(
        name="adaptive_weighted_sum",
        kind=ParamKind.FLOAT,
        step=Step.DRAW,
        help="The decayed sum of the probabilities of the tokens drawn so far, for adaptive_target; 0 by default.",
        metavar="X",
        default=0.0,
        range=_NOT_NEGATIVE,
        changes_argmax=True,
        source="llama.cpp",
    ),
    Parameter(
        name="adaptive_total_weight",
        kind=ParamKind.FLOAT,
        step=Step.DRAW,
        help="The decayed number of the tokens drawn so far, for adaptive_target; 0, the default, means none yet.",
        metavar="X",
        default=0.0,
        range=_NOT_NEGATIVE,
        changes_argmax=True,
        source="llama.cpp",
    ),
    Parameter(
        name="adaptive_decay",
        kind=ParamKind.FLOAT,
        step=Step.DRAW,
        help="What a token leaves of the weight of those before it, in the state of adaptive-p that is returned; 0.9 "
        "by default.",
        metavar="X",
        default=0.9,
        range=Range(0.0, 0.99),
        changes_argmax=True,
        source="llama.cpp",
    ),
    Parameter(
        name="skew",
        kind=ParamKind.FLOAT,
        step=Step.DRAW,
        help="Raise the cumulative probabilities of what is kept to the power e^skew: above 0 prefers the less likely; "
        "0 turns it off.",
        metavar="X",
        default=0.0,
        off=0.0,
        range=Range(-10.0, 10.0),
        changes_argmax=True,
        decided_with_candidates="after a filter dropped what was not sent",
        source="exllamav2",
    ),
    Parameter(
        name="dynamic_temperature_range",
        kind=ParamKind.FLOAT,
        step=Step.TEMPERATURE,
        help="Vary the temperature by up to this much around `temperature`, with the entropy of the row, down to 0 at "
        "most; 0 turns it off.",
        metavar="X",
        default=0.0,
        off=0.0,
        range=_NOT_NEGATIVE,
        decided_with_candidates="if a filter before the temperature dropped what was not sent, else never",
        source="llama.cpp",
    ),
    Parameter(
        name="dynamic_temperature_exponent",
        kind=ParamKind.FLOAT,
        step=Step.TEMPERATURE,
        help="Raise the normalised entropy to this power when the temperature is dynamic; 1 by default.",
        metavar="X",
        default=1.0,
        range=_POSITIVE,
        source="llama.cpp",
    ),
    Parameter(
        name="dynamic_temperature_counts_all",
        kind=ParamKind.FLAG,
        step=Step.TEMPERATURE,
        help="Let dynamic temperature count forbidden tokens and those that top_n_sigma dropped too, as in llama.cpp.",
        metavar="",
        source="llama.cpp",
    ),
    Parameter(
        name="smoothing_factor",
        kind=ParamKind.FLOAT,
        step=Step.TEMPERATURE,
        help="Bend the logits after the temperature, to -factor x the square of their distance below the largest; 0 "
        "turns it off.",
        metavar="X",
        default=0.0,
        off=0.0,
        range=_NOT_NEGATIVE,
        decided_with_candidates="with top_k or min_p, or after a filter that dropped what was not sent, and with a "
        "smoothing_curve of at most 3",
        source="text-generation-webui",
    ),
    Parameter(
        name="smoothing_curve",
        kind=ParamKind.FLOAT,
        step=Step.TEMPERATURE,
        help="Shape of the smoothing: the square of the distance at 1, the default, its cube at 3, else a mixture.",
        metavar="X",
        default=1.0,
        range=Range(1.0, high_is_open=True),
        changes_argmax=True,
        decided_with_candidates="as smoothing_factor",
        source="text-generation-webui",
    ),
)
