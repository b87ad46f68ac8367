"""The loop around the model, with a sampler that needs no server."""

import asyncio
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from examples.charlm.generate import Text, generate
from examples.charlm.model import CharModel


@pytest.fixture(scope="module")
def model() -> CharModel:
    return CharModel.load()


@dataclass
class Greedy:
    """Draws the argmax, and remembers what it was asked and how many asked at once."""

    calls: list[tuple[float, int, int]] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0

    async def __call__(self, row: NDArray[np.float32], *, temperature: float, seed: int, draw_offset: int) -> int:
        assert row.shape == (465,)
        self.calls.append((temperature, seed, draw_offset))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(0)
        self.in_flight -= 1
        return int(row.argmax())


async def test_all_texts_are_in_flight_at_once(model: CharModel) -> None:
    draw = Greedy()
    texts = [Text(opening="How", temperature=0.0, seed=number) for number in range(8)]
    took = await generate(model, texts, draw, max_chars=6)
    assert draw.most_in_flight == 8
    assert took.steps == 3
    assert took.rows == 24
    assert {text.written for text in texts} == {texts[0].written}
    assert texts[0].written.startswith("How")
    assert len(texts[0].written) == 6


async def test_every_text_has_its_own_seed_and_its_position_as_draw_index(model: CharModel) -> None:
    draw = Greedy()
    texts = [Text(opening="My", temperature=0.5, seed=10), Text(opening="Why", temperature=1.0, seed=11)]
    await generate(model, texts, draw, max_chars=5)
    # Ids begin with <s>, so the first draw of "My" has index 3.
    assert [call for call in draw.calls if call[1] == 10] == [(0.5, 10, 3), (0.5, 10, 4), (0.5, 10, 5)]
    assert [call for call in draw.calls if call[1] == 11] == [(1.0, 11, 4), (1.0, 11, 5)]


async def test_a_text_that_ended_goes_no_further(model: CharModel) -> None:
    draw = Greedy()
    ending = "Good Reddit, how do you think it should be?"
    texts = [Text(opening=ending, temperature=0.0, seed=1), Text(opening="How", temperature=0.0, seed=2)]
    steps = []
    took = await generate(model, texts, draw, max_chars=60, on_step=lambda now: steps.append(now[0].is_complete))
    assert texts[0].is_complete
    assert texts[0].written == ending
    assert steps[0] is True
    assert took.rows == 1 + 57
