"""Prices: one formula for requests and for records, and every field that costs time in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplerd_server.batching.pack import pack
from samplerd_server.core.enums import Dtype, InputKind
from samplerd_server.core.params import Dry
from samplerd_server.core.rows import DenseRows
from samplerd_server.sampling.kernels.partition import share_out
from samplerd_server.sampling.price import prices_of, work_of
from tests.support.samplers import EVERYTHING, KINDS, outputs, params, request, sequence_lists, sparse

IDS = np.arange(30, dtype=np.int32)
PARAMS = {
    "plain": params(),
    "temperature": params(temperature=0.5),
    "greedy": params(temperature=0.0, top_p=0.5),
    "light filter": params(top_k=3, typical_p=0.5),
    "filter": params(top_p=0.5),
    "guided": params(guidance_scale=2.0),
    "history": params(history=IDS, frequency_penalty=1.0),
    "dry": params(history=IDS, dry=Dry(multiplier=1.0, sequence_breakers=IDS)),
    "dry with a range": params(history=IDS, dry=Dry(multiplier=1.0, range=5)),
    "dry with breaker sequences": params(
        history=IDS, dry=Dry(multiplier=1.0, **sequence_lists("breaker_sequences", [[1, 2], [3, 4, 5]]))
    ),
    "bad words": params(**sequence_lists("bad_words", [[1, 2], [3, 4, 5]])),
    "n-grams": params(history=IDS, no_repeat_ngram_size=3),
    "bias": params(bias_ids=IDS, bias_values=np.zeros(30, np.float32)),
    "allowed": params(allowed_tokens=IDS),
    "bitmask": params(token_bitmask=bytes(8)),
}
OUTPUTS = {
    "nothing": outputs(),
    "logprobs": outputs(*KINDS),
    "top": outputs(KINDS[0], top_n=5),
    "named": outputs(KINDS[0], named=IDS.tolist()),
    "entropy": outputs(entropy=KINDS),
    "everything": EVERYTHING,
}


def price(asked) -> int:
    return work_of(asked.source, asked.num_samples, asked.params, asked.kind, asked.with_replacement, asked.outputs)


def compiled(asked) -> float:
    return share_out(pack([asked]).rows, np.zeros(2, np.int64))


@given(
    rows=st.integers(1, 3),
    own=st.lists(st.sampled_from(sorted(PARAMS)), min_size=3, max_size=3),
    is_shared=st.booleans(),
    wanted=st.sampled_from(sorted(OUTPUTS)),
    draws=st.integers(1, 9),
    with_replacement=st.booleans(),
    kind=st.sampled_from(InputKind),
    dtype=st.sampled_from(Dtype),
)
def test_a_request_and_its_records_have_one_price(rows, own, is_shared, wanted, draws, with_replacement, kind, dtype):
    asked = request(
        np.ones((rows, 600)),
        dtype,
        params=tuple(PARAMS[name] for name in own[: 1 if is_shared else rows]),
        outputs=OUTPUTS[wanted],
        num_samples=draws,
        with_replacement=with_replacement,
        kind=kind,
    )
    assert price(asked) == pytest.approx(compiled(asked), abs=1.0)
    prices = prices_of(asked)
    total = sum(each.total(draws) for each in prices) * (rows if len(prices) == 1 else 1)
    assert total == pytest.approx(compiled(asked))


@pytest.mark.parametrize("name", sorted(PARAMS))
def test_candidates_and_their_records_have_one_price(name):
    asked = sparse(IDS.tolist(), [0.0] * 30, 0.5, 600, params=PARAMS[name], num_samples=3)
    assert price(asked) == pytest.approx(compiled(asked), abs=1.0)


@pytest.mark.parametrize("name", sorted(PARAMS.keys() - {"plain", "temperature", "greedy"}))
def test_every_parameter_that_costs_time_raises_the_price(name):
    plain = request(np.ones((2, 600)))
    assert price(replace(plain, params=(PARAMS[name],))) > price(plain)


@pytest.mark.parametrize("name", sorted(OUTPUTS.keys() - {"nothing"}))
def test_every_output_raises_the_price(name):
    plain = request(np.ones((2, 600)))
    assert price(replace(plain, outputs=OUTPUTS[name])) > price(plain)


@pytest.mark.parametrize(
    "field",
    [
        {"num_samples": 2},
        {"with_replacement": False},
        {"kind": InputKind.PROBABILITIES, "params": (params(temperature=0.5),)},
    ],
)
def test_draws_and_powers_raise_the_price(field):
    plain = request(np.ones((2, 600)))
    assert price(replace(plain, **field)) > price(plain)


def test_breaker_sequences_and_ngrams_cost_more_than_their_ids():
    ids = price(request(np.ones((1, 600)), params=PARAMS["history"]))
    assert price(request(np.ones((1, 600)), params=PARAMS["n-grams"])) > ids
    single = PARAMS["dry with a range"]
    sequences = params(history=IDS, dry=replace(single.dry, **sequence_lists("breaker_sequences", [[1, 2]])))
    costs = [price(request(np.ones((1, 600)), params=own)) for own in (single, sequences)]
    assert costs[1] - costs[0] > 2 * 8


def test_longer_lists_cost_more_and_more_of_them():
    def with_history(length: int) -> int:
        own = params(history=np.zeros(length, np.int32), dry=Dry(multiplier=1.0))
        return price(request(np.ones((2, 600)), params=own))

    costs = [with_history(length) for length in (100, 1000, 10_000)]
    assert costs[2] - costs[1] == pytest.approx(10 * (costs[1] - costs[0]), rel=0.01)


# What a field may cost, beside as many bytes of plain sampling.

LIMIT = 1 << 18
"""The limit of ids in a list."""
MANY = np.zeros(LIMIT, np.int32)
AT_THEIR_LIMITS = {
    "light filter": {"params": params(top_k=3)},
    "filter": {"params": params(typical_p=0.5)},
    "history": {"params": params(history=MANY, frequency_penalty=1.0)},
    "dry": {"params": params(history=MANY, dry=Dry(multiplier=1.0, sequence_breakers=MANY))},
    "n-grams": {"params": params(history=MANY, no_repeat_ngram_size=3)},
    "bias": {"params": params(bias_ids=MANY, bias_values=np.zeros(LIMIT, np.float32))},
    "allowed": {"params": params(allowed_tokens=MANY)},
    "power": {"params": params(temperature=0.5), "kind": InputKind.PROBABILITIES},
    "without replacement": {"with_replacement": False},
    "logprobs": {"outputs": outputs(*KINDS)},
    "top": {"outputs": outputs(*KINDS, top_n=1024)},
    "named": {"outputs": outputs(*KINDS, named=MANY)},
    "entropy": {"outputs": outputs(entropy=KINDS)},
    "kept": {"outputs": outputs(kept=True)},
    "rank": {"outputs": outputs(rank=True)},
    "adaptive state": {"params": params(adaptive_target=0.5), "outputs": outputs(adaptive_state=True)},
}


def worth(asked) -> float:
    """The price of a plain request of the same rows and draws, with a number for each id and a draw for each value."""
    plain = prices_of(
        replace(asked, params=(params(),), outputs=outputs(), kind=InputKind.LOGITS, with_replacement=True)
    )
    number = (plain[0].once - prices_of(request(np.ones((1, 1))))[0].once) / (asked.source.vocab_size - 1)
    own, wanted = asked.params[0], asked.outputs
    lists = [own.history, own.bias_ids, own.bias_values, own.allowed_tokens, wanted.logprob_ids]
    lists.append(own.dry.sequence_breakers if own.dry else None)
    ids = sum(len(values) for values in lists if values is not None)
    named = 0 if wanted.logprob_ids is None else len(wanted.logprob_ids)
    values = asked.num_samples * (len(wanted.logprobs) + wanted.rank + 2 * wanted.adaptive_state)
    values += len(wanted.logprobs) * (2 * wanted.top_n + named) + len(wanted.entropy) + 2 * wanted.kept
    return plain[0].total(asked.num_samples) + ids * number + values * plain[0].per_draw


@pytest.mark.parametrize("name", sorted(AT_THEIR_LIMITS))
@pytest.mark.parametrize("draws", [1, 40, 1 << 22])
@pytest.mark.parametrize("width", [2, 1_000, 131_072, 1 << 25])
def test_no_field_at_its_limit_is_priced_above_twenty_times_its_bytes_of_plain_sampling(name, draws, width):
    source = DenseRows(dtype=Dtype.F32, rows=1, vocab_size=width, data=b"")
    own = dict(AT_THEIR_LIMITS[name])
    asked = request(np.ones((1, 1)), num_samples=draws, **own)
    asked = replace(asked, source=source)
    assert prices_of(asked)[0].total(draws) <= 20 * worth(asked)
