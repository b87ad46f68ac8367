"""The sampling parameters, in the order of the contract's fields."""

from __future__ import annotations

from samplerd_server.core.enums import Order, Step
from samplerd_server.sampling.parameters.adjustments import ADJUSTMENTS
from samplerd_server.sampling.parameters.parameter import Parameter, ParamKind, Range

__all__ = ["PARAMETERS", "PLAIN"]

_SHARE = Range(0.0, 1.0)
_OPEN_SHARE = Range(0.0, 1.0, high_is_open=True)
_POSITIVE_SHARE = Range(0.0, 1.0, low_is_open=True)
_NOT_NEGATIVE = Range(0.0, high_is_open=True)
_POSITIVE = Range(0.0, low_is_open=True, high_is_open=True)
_COUNT = Range(0, 2**32 - 1)
PARAMETERS: tuple[Parameter, ...] = (
    Parameter(
        name="temperature",
        kind=ParamKind.FLOAT,
        step=Step.TEMPERATURE,
        help="Divide the logits by this before softmax: below 1 sharpens, above 1 flattens, 0 takes the argmax.",
        metavar="T",
        default=1.0,
        off=1.0,
        range=_NOT_NEGATIVE,
        decided_with_candidates="at T = 1 if the draw falls on a candidate, or if the filters drop what was not sent, "
        "or at T = 0 if the first of the total order was sent",
    ),
    Parameter(
        name="top_k",
        kind=ParamKind.INTEGER,
        step=Step.FILTERS,
        help="Keep exactly the k most likely; 0 turns it off.",
        metavar="K",
        default=0,
        off=0,
        range=_COUNT,
        clamps_to_vocab=True,
        decided_with_candidates="if k is at most the number of candidates, at any temperature",
        source="Fan et al., 2018",
    ),
    Parameter(
        name="top_p",
        kind=ParamKind.FLOAT,
        step=Step.FILTERS,
        help="Keep the shortest prefix, most likely first, with at least this much of the probability; 1 turns it off.",
        metavar="P",
        default=1.0,
        off=1.0,
        range=_POSITIVE_SHARE,
        decided_with_candidates="if the cut lies within the candidates, at T = 1 or with ORDER_LLAMA_CPP",
        source="Holtzman et al., 2020",
    ),
    Parameter(
        name="min_p",
        kind=ParamKind.FLOAT,
        step=Step.FILTERS,
        help="Keep ids with at least this share of the largest probability; 0 turns it off.",
        metavar="P",
        default=0.0,
        off=0.0,
        range=_SHARE,
        decided_with_candidates="if the smallest candidate is below the cut, at any temperature",
        source="Nguyen et al., 2024",
    ),
    Parameter(
        name="top_a",
        kind=ParamKind.FLOAT,
        step=Step.FILTERS,
        help="Keep ids with at least this share of the square of the largest probability; 0 turns it off.",
        metavar="P",
        default=0.0,
        off=0.0,
        range=_SHARE,
        decided_with_candidates="if the cut lies within the candidates, at T = 1 or with ORDER_LLAMA_CPP",
        source="KoboldAI, after RWKV",
    ),
    Parameter(
        name="typical_p",
        kind=ParamKind.FLOAT,
        step=Step.FILTERS,
        help="Keep the most typical (the information nearest to the entropy) up to this much of the probability; 1 "
        "turns it off.",
        metavar="P",
        default=1.0,
        off=1.0,
        range=_POSITIVE_SHARE,
        changes_argmax=True,
        decided_with_candidates="only after another filter dropped what was not sent",
        source="Meister et al., 2022",
    ),
    Parameter(
        name="epsilon_cutoff",
        kind=ParamKind.FLOAT,
        step=Step.FILTERS,
        help="Keep ids with at least this probability; 0 turns it off.",
        metavar="P",
        default=0.0,
        off=0.0,
        range=_OPEN_SHARE,
        decided_with_candidates="if the cut lies within the candidates, at T = 1 or with ORDER_LLAMA_CPP",
        source="Hewitt et al., 2022",
    ),
    Parameter(
        name="eta_cutoff",
        kind=ParamKind.FLOAT,
        step=Step.FILTERS,
        help="Keep ids with at least the probability min(eta, sqrt(eta) x exp(-entropy)); 0 turns it off.",
        metavar="P",
        default=0.0,
        off=0.0,
        range=_OPEN_SHARE,
        decided_with_candidates="only after another filter dropped what was not sent",
        source="Hewitt et al., 2022",
    ),
    Parameter(
        name="top_n_sigma",
        kind=ParamKind.FLOAT,
        step=Step.FILTERS,
        help="Keep logits of at least the largest minus this many standard deviations; 0 turns it off.",
        metavar="N",
        default=0.0,
        off=0.0,
        range=_NOT_NEGATIVE,
        decided_with_candidates="never",
        source="Tang et al., 2024",
    ),
    Parameter(
        name="xtc_threshold",
        kind=ParamKind.FLOAT,
        step=Step.FILTERS,
        help="When XTC acts, drop all but the least likely of those with at least this probability; above 0.5 XTC "
        "never acts.",
        metavar="P",
        default=0.0,
        range=_SHARE,
        changes_argmax=True,
        decided_with_candidates="if the smallest candidate is below the threshold and the draw falls on a candidate, "
        "at T = 1",
        source="llama.cpp",
    ),
    Parameter(
        name="xtc_probability",
        kind=ParamKind.FLOAT,
        step=Step.FILTERS,
        help="Probability that XTC acts on a row; 0 turns it off.",
        metavar="P",
        default=0.0,
        off=0.0,
        range=_SHARE,
        changes_argmax=True,
        decided_with_candidates="as xtc_threshold",
        source="llama.cpp",
    ),
    Parameter(
        name="dynamic_temperature_range",
        kind=ParamKind.FLOAT,
        step=Step.TEMPERATURE,
        help="Vary the temperature by up to this much around `temperature`, with the entropy of the row; 0 turns it "
        "off.",
        metavar="X",
        default=0.0,
        off=0.0,
        range=Range(0.0, high_name="temperature"),
        decided_with_candidates="with ORDER_LLAMA_CPP after a filter dropped what was not sent, else never",
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
    *ADJUSTMENTS,
    Parameter(
        name="min_tokens_to_keep",
        kind=ParamKind.INTEGER,
        step=Step.FILTERS,
        help="Keep at least this many tokens in every filter; 1 by default.",
        metavar="N",
        default=1,
        off=1,
        range=_COUNT,
        clamps_to_vocab=True,
    ),
    Parameter(
        name="order",
        kind=ParamKind.CHOICE,
        choices=Order,
        step=Step.FILTERS,
        help="Apply the filters in the order of this system; hugging_face by default.",
        metavar="ORDER",
    ),
)

PLAIN = frozenset({"temperature"})
"""A row that sets no other parameter than these is plain: no filter, penalty, bias or mask."""
