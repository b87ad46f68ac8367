"""The ranges of all parameters: their ends, NaN and infinities, and the defaults."""

from __future__ import annotations

import math

import pytest

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.core.enums import Order, PenaltyScope, TieRule, XtcExemption
from samplerd_server.core.errors import InvalidRequestError
from samplerd_server.core.params import Dry, SamplingParams
from samplerd_server.sampling.parameters import PARAMETERS, ParamKind
from samplerd_server.transport.codec.decode_ids import ParamsContext
from samplerd_server.transport.codec.decode_params import decode_params

CONTEXT = ParamsContext(
    vocab_size=40,
    max_tokens=3,
    capabilities=frozenset(f"SamplingParams.{field.name}" for field in pb.SamplingParams.DESCRIPTOR.fields),
    has_guidance=True,
)
TINY, BELOW_1, ABOVE_1 = 5e-324, math.nextafter(1, 0), math.nextafter(1, 2)
NAN, INF = math.nan, math.inf
UNPLACED = "the temperature is not 1, or is dynamic or smoothed, but is not among the steps"

# name: (values that are allowed, values that are not)
RANGES = {
    "temperature": ([0.0, -0.0, TINY, 1e-8, 1.0, 1e308], [-TINY, -1.0, NAN, INF, -INF]),
    "top_p": ([TINY, 1e-9, 0.5, 1.0], [0.0, -0.5, ABOVE_1, NAN, INF, -INF]),
    "min_p": ([0.0, TINY, 1.0], [-TINY, ABOVE_1, NAN, INF, -INF]),
    "top_a": ([0.0, TINY, 1.0], [-TINY, ABOVE_1, NAN, INF, -INF]),
    "typical_p": ([TINY, 1.0], [0.0, -1.0, ABOVE_1, NAN, INF]),
    "epsilon_cutoff": ([0.0, TINY, BELOW_1], [-TINY, 1.0, NAN, INF]),
    "eta_cutoff": ([0.0, TINY, BELOW_1], [-TINY, 1.0, NAN, INF]),
    "top_h": ([TINY, 0.4, 1.0], [0.0, -0.5, ABOVE_1, NAN, INF]),
    "top_n_sigma": ([0.0, TINY, 1e308], [-TINY, NAN, INF, -INF]),
    "adaptive_target": ([0.0, TINY, 1.0], [-TINY, ABOVE_1, NAN, INF]),
    "adaptive_weighted_sum": ([0.0, TINY, 1e308], [-TINY, NAN, INF]),
    "adaptive_total_weight": ([0.0, TINY, 1e308], [-TINY, NAN, INF]),
    "adaptive_decay": ([0.0, TINY, 0.99], [-TINY, 0.9900000000000001, NAN, INF]),
    "skew": ([-10.0, -TINY, 0.0, 10.0], [-10.1, 10.1, NAN, INF, -INF]),
    "smoothing_factor": ([0.0, TINY, 4.0], [-TINY, NAN, INF]),
    "smoothing_curve": ([1.0, 3.0, 10.0], [BELOW_1, -1.0, NAN, INF]),
    "xtc_threshold": ([0.0, 0.5, 1.0], [-TINY, ABOVE_1, NAN, INF]),
    "xtc_probability": ([0.0, 0.5, 1.0], [-TINY, ABOVE_1, NAN, INF]),
    "dynamic_temperature_range": ([0.0, 0.5, 1.0, 1e308], [-TINY, NAN, INF]),
    "dynamic_temperature_exponent": ([TINY, 1.0, 1e308], [-1.0, NAN, INF]),
    "guidance_scale": ([-1e308, -1.0, 0.0, 1.0, 7.5, 1e308], [NAN, INF, -INF]),
    "repetition_penalty": ([TINY, 1.0, 1e308], [0.0, -1.0, NAN, INF]),
    "frequency_penalty": ([-1e308, 0.0, 1e308], [NAN, INF, -INF]),
    "presence_penalty": ([-1e308, 0.0, 1e308], [NAN, INF, -INF]),
}


def decode(message: pb.SamplingParams) -> SamplingParams:
    return decode_params(pb.SamplingParams.FromString(message.SerializeToString()), "params", CONTEXT)


def refused(message: pb.SamplingParams) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        decode(message)
    return caught.value


@pytest.mark.parametrize("name", RANGES)
def test_ranges(name):
    good, bad = RANGES[name]
    for value in good:
        # A temperature between 0 and the lowest that makes a difference is raised to that.
        held = 1e-260 if name == "temperature" and 0 < value < 1e-260 else value
        assert getattr(decode(pb.SamplingParams(**{name: value})), name) == held, value
        # The same beside a field that keeps the parameters from being plain.
        assert getattr(decode(pb.SamplingParams(**{name: value, "top_k": 1})), name) == held, value
    for value in bad:
        assert refused(pb.SamplingParams(**{name: value})).field == f"params.{name}", value
        assert refused(pb.SamplingParams(**{name: value, "top_k": 1})).field == f"params.{name}", value


def test_every_number_of_the_contract_has_its_range_here():
    doubles = {f.name for f in pb.SamplingParams.DESCRIPTOR.fields if f.cpp_type == f.CPPTYPE_DOUBLE}
    assert doubles == RANGES.keys()


def test_absence_means_the_default():
    assert decode(pb.SamplingParams()) == SamplingParams()
    odd = decode(pb.SamplingParams(top_k=3))
    assert odd == SamplingParams(top_k=3, is_plain=False)


def test_a_dynamic_temperature_needs_a_temperature():
    assert decode(pb.SamplingParams(temperature=0.5, dynamic_temperature_range=2.0)).dynamic_temperature_range == 2.0
    error = refused(pb.SamplingParams(temperature=0.0, dynamic_temperature_range=0.6))
    assert (error.field, error.description) == (
        "params.dynamic_temperature_range",
        "not with a temperature of 0, which is the argmax",
    )


def test_steps():
    steps = [pb.FILTER_STEP_MIN_P, pb.FILTER_STEP_TEMPERATURE, pb.FILTER_STEP_TOP_K]
    found = decode(pb.SamplingParams(steps=steps, min_p=0.1, top_k=3, temperature=0.5)).steps
    assert found.tolist() == [5, 1, 3]
    assert decode(pb.SamplingParams(top_k=3)).steps is None
    assert decode(pb.SamplingParams(steps=[pb.FILTER_STEP_TOP_K], top_k=3)).steps.tolist() == [3]


@pytest.mark.parametrize(
    ("fields", "field", "description"),
    [
        ({"steps": [5, 0]}, "steps[1]", "0 is not a known FilterStep"),
        ({"steps": [99]}, "steps[0]", "99 is not a known FilterStep"),
        ({"steps": [5, 1, 5]}, "steps[2]", "min_p is in the list twice"),
        ({"steps": [1], "order": 2}, "steps", "not together with order"),
        ({"steps": [1, 5], "top_p": 0.5}, "steps", "top_p is on, but is not among the steps"),
        ({"steps": [1], "xtc_probability": 0.5}, "steps", "xtc is on, but is not among the steps"),
        ({"steps": [5], "temperature": 0.5}, "steps", UNPLACED),
        ({"steps": [5], "temperature": 0.0}, "steps", UNPLACED),
        ({"steps": [5], "dynamic_temperature_range": 0.5}, "steps", UNPLACED),
        ({"steps": [5], "smoothing_factor": 0.5}, "steps", UNPLACED),
    ],
)
def test_steps_that_are_refused(fields, field, description):
    error = refused(pb.SamplingParams(**fields))
    assert (error.field, error.description) == (f"params.{field}", description)


def test_tie_rules():
    assert [decode(pb.SamplingParams(ties=n, top_k=1)).ties for n in range(6)] == [TieRule.LOWEST_ID, *TieRule]
    for number in (6, -1):
        assert refused(pb.SamplingParams(ties=number)).field == "params.ties"


def test_remembering_plain_temperatures_forgets_no_check():
    for _ in range(3):
        assert decode(pb.SamplingParams(temperature=0.75)).temperature == 0.75
        assert refused(pb.SamplingParams(temperature=NAN)).field == "params.temperature"


def test_remembering_is_bounded(monkeypatch):
    remembered = {}
    monkeypatch.setattr("samplerd_server.transport.codec.decode_params._plain_by_temperature", remembered)
    for number in range(3000):
        assert decode(pb.SamplingParams(temperature=1 + number / 4096)).temperature == 1 + number / 4096
    assert len(remembered) == 1024
    first = pb.SamplingParams(temperature=1.0)
    assert decode(first) is decode(first)


def test_counts_beyond_the_vocabulary_mean_all():
    params = decode(pb.SamplingParams(top_k=2**32 - 1, min_tokens_to_keep=2**32 - 1))
    assert (params.top_k, params.min_tokens_to_keep) == (40, 40)
    assert decode(pb.SamplingParams(top_k=1)).min_tokens_to_keep == 1


def test_orders():
    assert [decode(pb.SamplingParams(order=n, top_k=1)).order for n in range(5)] == [Order.HUGGING_FACE, *Order]
    for number in (5, -1):
        assert refused(pb.SamplingParams(order=number)).field == "params.order"


@pytest.mark.parametrize("name", [row.name for row in PARAMETERS if row.choices is PenaltyScope])
def test_scopes(name):
    found = [getattr(decode(pb.SamplingParams(**{name: n, "top_k": 1})), name) for n in range(3)]
    assert found == [PenaltyScope.HISTORY, *PenaltyScope]
    for number in (3, -1):
        error = refused(pb.SamplingParams(**{name: number}))
        assert (error.field, error.description) == (f"params.{name}", f"{number} is not a known PenaltyScope")


def test_exempt_tokens_of_xtc():
    params = decode(pb.SamplingParams(xtc_exempt_ids=[3, 39, 3], xtc_exemption=pb.XTC_EXEMPTION_ROW))
    assert (params.xtc_exempt_ids.tolist(), params.xtc_exemption) == ([3, 39, 3], XtcExemption.ROW)
    assert decode(pb.SamplingParams(xtc_exempt_ids=[3])).xtc_exemption == XtcExemption.TOKEN
    assert refused(pb.SamplingParams(xtc_exempt_ids=[0, 40])).field == "params.xtc_exempt_ids[1]"
    assert refused(pb.SamplingParams(xtc_exemption=3)).field == "params.xtc_exemption"


def test_lengths_of_history_have_no_limit():
    lengths = dict.fromkeys(("prompt_length", "penalty_range", "no_repeat_ngram_size"), 2**32 - 1)
    params = decode(pb.SamplingParams(**lengths))
    assert {getattr(params, name) for name in lengths} == {2**31 - 1}
    assert decode(pb.SamplingParams(prompt_length=3)).prompt_length == 3


def test_sequences():
    def words(*sequences):
        return [pb.TokenSequence(ids=ids) for ids in sequences]

    params = decode(pb.SamplingParams(bad_words=words([39, 0], [1])))
    assert (params.bad_words_ids.tolist(), params.bad_words_ends.tolist()) == ([39, 0, 1], [2, 3])
    assert decode(pb.SamplingParams(top_k=1)).bad_words_ids is None
    dry = decode(pb.SamplingParams(dry=pb.DryParams(multiplier=1, breaker_sequences=words([1], [2, 3])))).dry
    assert (dry.breaker_sequences_ids.tolist(), dry.breaker_sequences_ends.tolist()) == ([1, 2, 3], [1, 3])
    for sequences, path in (
        (words([0], [3, 40]), "[1].ids[1]"),
        (words([-1]), "[0].ids[0]"),
        (words([1], []), "[1].ids"),
        (words([]), "[0].ids"),
        (words([1, 2], [3, 4]), ""),
    ):
        assert refused(pb.SamplingParams(bad_words=sequences)).field == f"params.bad_words{path}"
        inner = pb.DryParams(multiplier=1, breaker_sequences=sequences)
        assert refused(pb.SamplingParams(dry=inner)).field == f"params.dry.breaker_sequences{path}"


@pytest.mark.parametrize("name", [parameter.name for parameter in PARAMETERS if parameter.kind is ParamKind.IDS])
def test_lists_of_ids(name):
    assert getattr(decode(pb.SamplingParams(**{name: [39, 0, 39]})), name).tolist() == [39, 0, 39]
    assert getattr(decode(pb.SamplingParams(top_k=1)), name) is None
    for ids, path in (([0, 40], "[1]"), ([-1], "[0]"), ([2**31 - 1], "[0]"), ([1, 1, 1, 1], "")):
        assert refused(pb.SamplingParams(**{name: ids})).field == f"params.{name}{path}"


def test_logit_bias():
    entry = pb.LogitBias
    params = decode(pb.SamplingParams(logit_bias=[entry(id=3, bias=-INF), entry(id=1, bias=2.0)]))
    assert params.bias_ids.tolist() == [3, 1]
    assert params.bias_values.tolist() == [-INF, 2.0]
    for entries, path in (
        ([entry(id=3, bias=NAN)], "[0].bias"),
        ([entry(id=2), entry(id=3, bias=INF)], "[1].bias"),
        ([entry(id=1), entry(id=1)], ""),
        ([entry(id=1), entry(id=40)], "[1].id"),
        ([entry(id=n) for n in range(4)], ""),
    ):
        assert refused(pb.SamplingParams(logit_bias=entries)).field == f"params.logit_bias{path}"


def test_a_bitmask_is_whole_words_and_no_longer_than_the_vocabulary():
    for size in (4, 8):
        mask = bytes(range(size))
        assert decode(pb.SamplingParams(token_bitmask=mask)).token_bitmask == mask
    for size in (1, 3, 5, 12):
        assert refused(pb.SamplingParams(token_bitmask=bytes(size))).field == "params.token_bitmask"
    both = pb.SamplingParams(token_bitmask=bytes(4), allowed_tokens=[1])
    assert refused(both).field == "params.token_bitmask"
    both.order = 99
    assert refused(both).field == "params.order"  # what is checked first is what a client is told
    both.order, both.min_p = pb.ORDER_VLLM, 2.0
    assert refused(both).field == "params.token_bitmask"


def test_dry():
    dry = decode(pb.SamplingParams(dry=pb.DryParams(multiplier=0.8))).dry
    assert dry == Dry(multiplier=0.8, base=1.75, allowed_length=2, range=0)
    full = pb.DryParams(multiplier=1, base=1, allowed_length=2**32 - 1, range=2**32 - 1, sequence_breakers=[39])
    dry = decode(pb.SamplingParams(dry=full)).dry
    assert (dry.base, dry.allowed_length, dry.range) == (1.0, 2**31 - 1, 2**31 - 1)
    assert dry.sequence_breakers.tolist() == [39]
    assert not dry.allow_no_repeat
    assert decode(pb.SamplingParams(dry=pb.DryParams(multiplier=1, allow_no_repeat=True))).dry.allow_no_repeat
    assert decode(pb.SamplingParams(dry=pb.DryParams(base=2))).dry is None
    for change, path in (
        ({"multiplier": -1}, "multiplier"),
        ({"multiplier": NAN}, "multiplier"),
        ({"multiplier": INF}, "multiplier"),
        ({"multiplier": 1, "base": BELOW_1}, "base"),
        ({"multiplier": 1, "base": NAN}, "base"),
        ({"multiplier": 1, "base": INF}, "base"),
        ({"multiplier": 1, "sequence_breakers": [40]}, "sequence_breakers[0]"),
        ({"base": 2, "sequence_breakers": [40]}, "sequence_breakers[0]"),
    ):
        assert refused(pb.SamplingParams(dry=pb.DryParams(**change))).field == f"params.dry.{path}"
