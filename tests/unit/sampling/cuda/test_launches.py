"""How many launches a batch is, whatever its rows ask for: counted of random batches, without running any kernel."""

from __future__ import annotations

from typing import Any

import pytest

from samplerd_server.batching.pack import pack
from samplerd_server.sampling.cuda.draw import draw
from samplerd_server.sampling.cuda.scope import is_drawn
from samplerd_server.sampling.rows import new_results
from tests.support.gpu_batches import random_batch

ORDER = ["measure", "adjust", "measure", "select", "pick", "draw_left", "moments", "describe"]
BATCHES = 300


def launches_of(asked: list[Any]) -> list[str]:
    own: list[str] = []
    batch = pack(asked)
    assert is_drawn(batch.rows).all()
    draw(batch.rows, new_results(batch), lambda kernel, *_: own.append(kernel.__name__))
    return own


def are_in_order(launches: list[str]) -> bool:
    """Whether they are some of those of ORDER, each once."""
    left = iter(ORDER)
    return all(name in left for name in launches)


@pytest.fixture(scope="module")
def batches() -> list[list[Any]]:
    return [[row.ask() for row in random_batch(seed)] for seed in range(BATCHES)]


def test_no_mix_of_parameters_is_more_than_eight_launches(batches) -> None:
    own = [launches_of(asked) for asked in batches]
    assert all(are_in_order(launches) for launches in own)
    assert max(map(len, own)) == 8, "the limit is reached, or these batches are not mixed"


def test_plain_rows_are_two_launches(batches) -> None:
    plain = [row for asked in batches for row in asked if row.params[0].is_plain and not row.outputs.output_flags]
    plain = [row for row in plain if row.with_replacement and not hasattr(row.source, "candidates")]
    assert len(plain) > 10
    assert launches_of(plain) == ["measure", "pick"]


def test_draws_without_replacement_are_three_launches_at_most(batches) -> None:
    plain = [row for asked in batches for row in asked if row.params[0].is_plain and not row.with_replacement]
    assert len(plain) > 5
    assert {len(launches_of([row])) for row in plain if not any(row.outputs.entropy)} <= {2, 3}


def test_filtered_rows_are_seven_launches_without_changes(batches) -> None:
    """Filters alone, with temperatures after them, and shapes: nothing is copied before they are applied."""
    filters = {"top_k", "top_p", "min_p", "typical_p", "top_a", "skew", "adaptive_target", "order", "steps", "ties"}
    rows = [row for seed in range(BATCHES) for row in random_batch(seed)]
    some = [row.ask() for row in rows if {name for name, _ in row.parameters} <= filters and row.guidance is None]
    assert len(some) > 50
    assert len(launches_of(some)) <= 7
