"""The forward pass: shapes, what must hold for any weights, and known facts of these."""

import numpy as np
import pytest

from examples.charlm.model import PAD, WINDOW, CharModel


@pytest.fixture(scope="module")
def model() -> CharModel:
    return CharModel.load()


def greedy(model: CharModel, opening: str, chars: int) -> str:
    ids = model.encode(opening)
    for _ in range(chars):
        ids.append(int(model.logits(model.windows([ids]))[0].argmax()))
    return model.decode(ids)


def log_likelihood(model: CharModel, text: str) -> float:
    """Mean ln p of the text's characters, in nats."""
    ids = model.encode(text)
    logits = model.logits(model.windows([ids[:length] for length in range(1, len(ids))])).astype(np.float64)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return float(log_p[np.arange(len(ids) - 1), ids[1:]].mean())


def test_shapes_and_dtypes(model: CharModel) -> None:
    assert model.vocab_size == 465
    assert model.embedding.shape == (465, 100)
    assert model.chars[model.boundary] == "<s>"
    logits = model.logits(model.windows([model.encode("How"), model.encode("")]))
    assert logits.shape == (2, 465)
    assert logits.dtype == np.float32


def test_padding_is_never_drawn_and_all_else_can_be(model: CharModel) -> None:
    logits = model.logits(model.windows([model.encode("How do you")]))
    assert logits[0, PAD] == -np.inf
    assert np.isfinite(logits[0, 1:]).all()


def test_windows_keep_the_last_characters_and_pad_on_the_left(model: CharModel) -> None:
    short, long = model.windows([[1, 2, 3], list(range(1, 60))])
    assert short.tolist() == [PAD] * (WINDOW - 3) + [1, 2, 3]
    assert long.tolist() == list(range(20, 60))


def test_encode_and_decode_are_each_others_inverse(model: CharModel) -> None:
    ids = model.encode("How do you think")
    assert ids[0] == model.boundary
    assert model.decode(ids) == "How do you think"


def test_a_character_that_the_model_does_not_know_is_named(model: CharModel) -> None:
    with pytest.raises(ValueError, match="'☃'"):
        model.encode("snow ☃")


def test_a_text_does_not_depend_on_the_texts_beside_it(model: CharModel) -> None:
    openings = [model.encode(opening) for opening in ("How do", "My", "", "Today I was thinking about the weather")]
    together = model.logits(model.windows(openings))
    for row, ids in zip(together, openings, strict=True):
        alone = model.logits(model.windows([ids]))[0]
        # Not bit for bit: a matrix product may round differently for another number of rows.
        np.testing.assert_allclose(row, alone, rtol=1e-4, atol=1e-4)


def test_greedy_text_is_what_this_model_writes(model: CharModel) -> None:
    opening = "[Specific] Can someone please remove the state of the"
    assert greedy(model, "", 80).startswith(opening)
    assert greedy(model, "", 80) == greedy(model, "", 80)


@pytest.mark.parametrize(
    "text",
    [
        "[Specific] Can someone please remove the state of the start of the background of",
        "Good Reddit, how do you think it should be?",
        "New Farmer comfort! This girl is sm android.",
    ],
)
def test_texts_drawn_from_this_model_before_are_likely(model: CharModel, text: str) -> None:
    # An untrained model gives ln(1/465) = -6.1 nats a character; shuffled, these texts get about -5.
    shuffled = "".join(np.random.default_rng(1).permutation(list(text)))
    assert log_likelihood(model, text) > -2.0
    assert log_likelihood(model, shuffled) < -3.5


def test_the_model_ends_its_texts(model: CharModel) -> None:
    after_a_question = model.logits(model.windows([model.encode("Good Reddit, how do you think it should be?")]))[0]
    assert int(after_a_question.argmax()) == model.boundary
