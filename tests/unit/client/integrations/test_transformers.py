"""What `TransformersSampler` refuses before a model runs, and the scores that it gives to the loop of `generate`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from samplerd_client.integrations import transformers
from samplerd_client.integrations.pipeline import pipeline_of
from samplerd_client.integrations.rows import row_seeds
from samplerd_client.integrations.transformers import TransformersSampler


class Model:
    """What `generate` does with its hook: calls it with what it has made of the arguments."""

    def generate(self, inputs: Any, custom_generate: Any, **arguments: Any) -> Any:
        mode = SimpleNamespace(value=arguments.pop("mode", "sample"))
        config = SimpleNamespace(get_generation_mode=lambda: mode, do_sample=True, **arguments)
        return custom_generate(self, inputs, logits_processor=[], stopping_criteria=[], generation_config=config)

    def _sample(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("the model ran")


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"num_beams": 2}, "num_beams"),
        ({"output_scores": True}, "output_scores"),
        ({"penalty_alpha": 0.6}, "penalty_alpha"),
        ({"prompt_lookup_num_tokens": 3}, "prompt_lookup_num_tokens"),
        ({"assistant_model": object()}, "assistant_model"),
        ({"custom_generate": "somebody/else"}, "custom_generate"),
        ({"mode": "beam_sample"}, "generation_config"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(arguments: dict[str, Any], name: str) -> None:
    sampler = TransformersSampler("127.0.0.1:1")
    with pytest.raises(ValueError, match=f"^{name}: "):
        sampler.generate(Model(), torch.zeros((1, 2), dtype=torch.long), seed=1, **arguments)


def test_where_the_rows_are_read_is_up_to_the_sampler_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []
    monkeypatch.setattr(transformers, "RowSampler", lambda server, **options: given.append(options))
    TransformersSampler("127.0.0.1:1")
    TransformersSampler("127.0.0.1:1", shared_memory_prefix="logits-", cuda_shared_memory=True)
    assert given == [
        {"shared_memory_prefix": None, "cuda_shared_memory": False},
        {"shared_memory_prefix": "logits-", "cuda_shared_memory": True},
    ]


def test_seeds_are_as_many_as_rows() -> None:
    sampler = TransformersSampler("127.0.0.1:1")
    with pytest.raises(ValueError, match=r"^seed: 2 rows are generated, got 1 seeds"):
        sampler.generate(Model(), torch.zeros((2, 2), dtype=torch.long), seed=[1])
    with pytest.raises(ValueError, match=r"^seed: must be in"):
        sampler.generate(Model(), torch.zeros((2, 2), dtype=torch.long), seed=-1)


def test_without_a_seed_torchs_generator_decides() -> None:
    torch.manual_seed(5)
    first, second = transformers._seeds(None, 3), transformers._seeds(None, 3)
    torch.manual_seed(5)
    assert transformers._seeds(None, 3) == first != second


def test_seeds_of_rows_are_those_of_any_batch() -> None:
    assert row_seeds(7, 5)[:2] == row_seeds(7, 2)
    assert len({*row_seeds(7, 100), *row_seeds(8, 100)}) == 200


def test_scores_are_one_for_the_drawn_token_alone() -> None:
    drawn = iter([[2, 0], [1, 1]])
    asked = []

    def draw(_scores: Any, params: Any, **options: Any) -> Any:
        asked.append((params, options))
        return np.array(next(drawn), np.int32)

    processor = transformers._DrawingProcessor(
        SimpleNamespace(draw=draw), pipeline_of([], do_sample=True), list, [3, 4]
    )
    tokens, scores = torch.zeros((2, 1), dtype=torch.long), torch.zeros((2, 3))
    for step, wanted in enumerate([[2, 0], [1, 1]]):
        given = processor(tokens, scores)
        assert given.argmax(dim=-1).tolist() == wanted
        assert given.sum(dim=-1).tolist() == [1, 1]
        assert asked[step][1] == {"seeds": [3, 4], "step": step}
