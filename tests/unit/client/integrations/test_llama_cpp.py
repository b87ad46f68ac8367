"""The loop of llama-cpp-python with a stand-in for it: what is decoded and drawn when, what ends, what is refused."""

from __future__ import annotations

import ctypes
import importlib
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from samplerd_client.errors import RowError, RowErrorReason, RowsFailedError
from samplerd_client.integrations.rows import row_seeds
from samplerd_client.parameter_table import PARAMETERS
from samplerd_client.sampling_params import SamplingParams
from tests.support import fake_llama_cpp
from tests.support.fake_llama_cpp import Context, following

NAME = "samplerd_client.integrations.llama_cpp"
LOOP = "samplerd_client.integrations.llama_cpp_loop"
PROMPTS = [[1, 2, 3], [9], [5, 6]]


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch):
    """Leave no module behind that holds a stand-in."""
    for name in (NAME, LOOP):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield
    for name in (NAME, LOOP):
        sys.modules.pop(name, None)


@pytest.fixture
def use(monkeypatch):
    """Return what imports one of the modules with the stand-in of a context."""

    def import_with(context: Context, name: str = NAME) -> Any:
        monkeypatch.setitem(sys.modules, "llama_cpp", fake_llama_cpp.module(context))
        return importlib.import_module(name)

    return import_with


def greedy(outputs: Any) -> Any:
    return outputs.logits.argmax(axis=1)


def text_after(prompt: list[int], sequence: int, tokens: int, vocab_size: int = 31) -> list[int]:
    """What the stand-in's model says after a prompt."""
    text = list(prompt)
    for _ in range(tokens):
        text.append(following(text[-1], len(text) - 1, sequence, vocab_size))
    return text[len(prompt) :]


@pytest.mark.parametrize("name", [NAME, LOOP])
def test_without_llama_cpp_python_the_error_says_what_to_install(monkeypatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    with pytest.raises(ImportError, match=r"needs llama-cpp-python: pip install 'samplerd\[llama-cpp\]'"):
        importlib.import_module(name)


@pytest.mark.parametrize("n_batch", [1, 2, 4, 64])
def test_every_sequence_gets_its_tokens_in_batches_of_any_size(use, n_batch: int) -> None:
    context = Context(n_batch=n_batch)
    texts: list[list[int]] = [[], [], []]
    for sequence, token in use(context, LOOP).decode_loop(context, PROMPTS, greedy, max_tokens=4):
        texts[sequence].append(token)
    assert texts == [text_after(prompt, sequence, 4) for sequence, prompt in enumerate(PROMPTS)]
    assert [context.cells[sequence][-1] for sequence in range(3)] == [text[2] for text in texts]
    assert context.cells[3] == [99], "a sequence that is not the loop's own"
    assert context.batches == 0
    if n_batch == 64:
        assert context.decoded == [[0, 0, 0, 1, 2, 2], [0, 1, 2], [0, 1, 2], [0, 1, 2]]


def test_rows_are_where_the_context_keeps_them(use) -> None:
    context = Context(n_batch=4)
    asked: list[tuple[Any, ...]] = []

    def draw(outputs: Any) -> Any:
        assert outputs.logits.ctypes.data == ctypes.addressof(context.logits)
        assert outputs.logits.dtype == np.float32
        asked.append((outputs.step, outputs.sequences, outputs.positions, outputs.logits.shape))
        return greedy(outputs)

    list(use(context, LOOP).decode_loop(context, PROMPTS, draw, max_tokens=2))
    assert asked == [(0, (0, 1), (2, 3), (2, 31)), (0, (2,), (1,), (1, 31)), (1, (0, 1, 2), (0, 1, 2), (3, 31))]


def test_a_token_that_ends_a_text_ends_its_sequence_alone(use) -> None:
    end = text_after(PROMPTS[1], 1, 2)[1]
    context = Context(end=end)
    given = list(use(context, LOOP).decode_loop(context, PROMPTS, greedy, max_tokens=4))
    assert [token for sequence, token in given if sequence == 1] == text_after(PROMPTS[1], 1, 2)
    assert [token for sequence, token in given if sequence == 0] == text_after(PROMPTS[0], 0, 4)
    assert context.cells[1] == []
    assert context.decoded[2:] == [[0, 2], [0, 2]]


def test_a_loop_that_is_left_frees_its_batch(use) -> None:
    context = Context()
    given = use(context, LOOP).decode_loop(context, PROMPTS, greedy, max_tokens=4)
    next(given)
    assert context.batches == 1
    given.close()
    assert context.batches == 0


@pytest.mark.parametrize(
    ("prompts", "max_tokens", "text"),
    [
        ([], 1, r"^prompts: the context has from 1 to 4 sequences \(n_seq_max\), got 0"),
        ([[1]] * 5, 1, r"^prompts: the context has from 1 to 4 sequences \(n_seq_max\), got 5"),
        ([[1], []], 1, "^prompts: prompt 1 must have at least one id"),
        ([[1, 31]], 1, r"^prompts: prompt 0 must have .* in \[0, 31\)"),
        ([[-1]], 1, r"^prompts: prompt 0 must have .* in \[0, 31\)"),
        ([[1], [2] * 30], 4, "^prompts: prompt 1 has 30 tokens, and with 4 more"),
        ([[1]], 0, "^max_tokens: must be at least 1, got 0"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_model_runs(use, prompts: Any, max_tokens: int, text: str) -> None:
    context = Context()
    own = use(context, LOOP)
    with pytest.raises(ValueError, match=text):
        own.decode_loop(context, prompts, greedy, max_tokens=max_tokens)
    assert context.decoded == []
    assert context.cells[0] == [99]


def test_a_text_may_fill_its_sequence(use) -> None:
    context = Context()
    assert len(list(use(context, LOOP).decode_loop(context, [[1] * 30], greedy, max_tokens=3))) == 3


@pytest.mark.parametrize(("status", "text"), [(1, r"status 1: the context has no room .*n_ctx"), (-1, "status -1$")])
def test_a_model_that_fails_is_told(use, status: int, text: str) -> None:
    context = Context()
    context.status = status
    with pytest.raises(RuntimeError, match=f"^llama_decode failed with {text}"):
        list(use(context, LOOP).decode_loop(context, PROMPTS, greedy, max_tokens=4))
    assert context.batches == 0


def test_a_context_without_logits_is_told(use, monkeypatch) -> None:
    context = Context()
    own = use(context, LOOP)
    monkeypatch.setattr(own.llama, "llama_get_logits_ith", lambda _context, _index: ctypes.POINTER(ctypes.c_float)())
    with pytest.raises(RuntimeError, match=r"^llama_get_logits_ith returned no logits"):
        list(own.decode_loop(context, PROMPTS, greedy, max_tokens=4))


class Rows:
    """Stands for `RowSampler`: draws the largest number of each row, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, Any, Any]] = []

    def draw(self, rows: Any, params: Any, *, seeds: Any, step: int) -> Any:
        self.asked.append((params, seeds, step))
        return rows.argmax(axis=1).astype(np.int32)


def sampler_of(own: Any, rows: Any) -> Any:
    sampler = own.LlamaCppSampler("127.0.0.1:1")
    sampler._rows = rows
    return sampler


def test_each_row_has_its_seed_and_the_text_so_far(use) -> None:
    context, rows = Context(end=text_after(PROMPTS[1], 1, 1)[0]), Rows()
    params = SamplingParams.like("llama.cpp", repetition_penalty=1.1)
    texts = sampler_of(use(context), rows).generate(context, PROMPTS, params, max_tokens=3, seed=7)
    assert texts == [text_after(PROMPTS[0], 0, 3), text_after(PROMPTS[1], 1, 1), text_after(PROMPTS[2], 2, 3)]
    seeds = row_seeds(7, 3)
    assert [(given, step) for _, given, step in rows.asked] == [(seeds, 0), (seeds[::2], 1), (seeds[::2], 2)]
    for step, (given, _, _) in enumerate(rows.asked):
        for sequence, own in zip([0, 1, 2] if step == 0 else [0, 2], given, strict=True):
            assert list(own.history) == [*PROMPTS[sequence], *texts[sequence][:step]]
            assert own.prompt_length == len(PROMPTS[sequence])
            assert (own.repetition_penalty, own.penalty_range, own.order) == (1.1, 64, "llama_cpp")


def test_parameters_that_read_no_history_go_once_for_all_rows(use) -> None:
    context, rows = Context(), Rows()
    params = SamplingParams.like("llama.cpp", top_k=5)
    sampler_of(use(context), rows).generate(context, PROMPTS, params, max_tokens=2, seed=[5, 6, 7])
    assert [given for given, _, _ in rows.asked] == [params, params]
    assert [seeds for _, seeds, _ in rows.asked] == [[5, 6, 7], [5, 6, 7]]


def test_each_sequence_may_have_its_own_parameters(use) -> None:
    context, rows = Context(), Rows()
    each = [SamplingParams(top_k=2), SamplingParams(frequency_penalty=0.5), SamplingParams(temperature=0.0)]
    sampler_of(use(context), rows).generate(context, PROMPTS, each, max_tokens=1, seed=7)
    [(given, _, _)] = rows.asked
    assert [given[0], given[2]] == [each[0], each[2]]
    assert list(given[1].history) == PROMPTS[1]


def test_without_a_seed_each_run_has_another(use) -> None:
    context, rows = Context(), Rows()
    sampler = sampler_of(use(context), rows)
    for _ in range(2):
        sampler.generate(context, PROMPTS, SamplingParams(), max_tokens=1)
    assert rows.asked[0][1] != rows.asked[1][1]


def test_all_parameters_that_read_history_are_known(use) -> None:
    own = use(Context())
    about = {parameter.name for parameter in PARAMETERS if "history" in parameter.help or parameter.name == "dry"}
    modifiers = {name for name in about if name.endswith(("_scope", "_range"))} | {"history", "prompt_length"}
    assert about - modifiers == set(own._READS_HISTORY)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"history": [1]}, "history"),
        ({"prompt_length": 1}, "prompt_length"),
        ({"adaptive_target": 0.3}, "adaptive_target"),
        ({"guidance_scale": 2.0}, "guidance_scale"),
    ],
)
def test_parameters_of_the_loop_are_refused_by_name(use, fields: dict[str, Any], name: str) -> None:
    context = Context()
    sampler = sampler_of(use(context), Rows())
    with pytest.raises(ValueError, match=f"^{name}: not with LlamaCppSampler"):
        sampler.stream(context, PROMPTS, [SamplingParams(), SamplingParams(), SamplingParams(**fields)], max_tokens=1)
    assert context.decoded == []


def test_params_and_seeds_are_as_many_as_prompts(use) -> None:
    context = Context()
    sampler = sampler_of(use(context), Rows())
    with pytest.raises(ValueError, match=r"^params: there are 3 prompts, got 2 params"):
        sampler.stream(context, PROMPTS, [SamplingParams()] * 2, max_tokens=1)
    with pytest.raises(ValueError, match=r"^seed: 3 rows are generated, got 1 seeds"):
        sampler.stream(context, PROMPTS, SamplingParams(), max_tokens=1, seed=[1])


def test_a_bad_row_is_named_by_its_sequence(use) -> None:
    context = Context(end=text_after(PROMPTS[0], 0, 1)[0])

    def draw(rows: Any, params: Any, *, seeds: Any, step: int) -> Any:
        if step == 1:
            raise RowsFailedError("row 1: has NaN", row_errors=(bad,))
        return rows.argmax(axis=1).astype(np.int32)

    bad = RowError(row=1, reason=RowErrorReason.NAN, message="has NaN")
    sampler = sampler_of(use(context), SimpleNamespace(draw=draw))
    with pytest.raises(RowsFailedError, match=r"^row 2: has NaN") as caught:
        sampler.generate(context, PROMPTS, SamplingParams(), max_tokens=2, seed=1)
    assert [own.row for own in caught.value.row_errors] == [2]
