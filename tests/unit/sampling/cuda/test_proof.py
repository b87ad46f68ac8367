"""The program that draws random batches by both kinds of kernels: it compares, finds what differs, and goes on."""

from __future__ import annotations

import json
import sys
from collections import Counter

import numpy as np
import pytest

from samplerd_server.sampling.cuda import draw as drawing
from samplerd_server.sampling.kernels import NumbaSampler
from tests.support import gpu_proof
from tests.support.drafts import ask_sampler
from tests.support.gpu_batches import random_batch, random_draft


def run(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["gpu_proof", *arguments])
    return gpu_proof.main()


def test_a_batch_is_the_same_each_time() -> None:
    assert repr(random_batch(7)) == repr(random_batch(7))
    assert repr(random_batch(7)) != repr(random_batch(8))


def test_drafts_are_accepted_and_corrected_about_as_often() -> None:
    cpu, endings, tokens, accepted, partly = NumbaSampler(1), Counter(), 0, 0, 0
    for seed in range(300):
        draft = random_draft(seed)
        said = ask_sampler(cpu, *draft.ask())
        ending = gpu_proof.ending_of(draft, said)
        endings[ending] += 1
        tokens, accepted = tokens + len(draft.ids), accepted + len(said.path)
        partly += ending == "corrected" and len(said.path) > 0
    assert endings["accepted_to_a_leaf"] > 100
    assert endings["corrected"] > 100
    assert endings["failed"] > 20
    assert partly > 20
    assert accepted > tokens / 3


def test_a_run_goes_on_where_the_last_one_ended(monkeypatch, tmp_path, capsys) -> None:
    stored = tmp_path / "bits.json"
    assert run(monkeypatch, "--batches", "2", "--output", str(stored)) == 0
    first = json.loads(stored.read_text())
    assert run(monkeypatch, "--batches", "3", "--output", str(stored)) == 0
    both = json.loads(stored.read_text())
    assert (first["counts"]["batches"], both["counts"]["batches"]) == (2, 3)
    assert both["counts"]["rows"] > first["counts"]["rows"] > 0
    assert both["batches_that_differ"] == []
    assert both["kernels"] == first["kernels"]
    assert run(monkeypatch, "--batches", "1", "--seed", "9", "--seconds", "0", "--output", str(stored)) == 0
    assert json.loads(stored.read_text())["counts"] == {}


@pytest.mark.parametrize("wrong", ["ends", "lists", "samples"])
def test_one_wrong_bit_is_found(monkeypatch, wrong: str) -> None:
    def draw_wrongly(rows, results, launch):
        drawn = drawing.draw(rows, results, launch)
        if wrong == "samples":
            results.samples[-1] += 1
        elif wrong == "ends":
            drawn.ends.numpy().view(np.int64)[0] ^= 1
        else:
            next(own for own in drawn.lists if len(own))[0] += 1
        return drawn

    from tests.support.samplers import params, request  # noqa: PLC0415  # after this folder's conftest

    asked = [request([1.0, 2.0, 0.5], seed=1, params=params(top_k=2))]
    counts = gpu_proof.check_batch(NumbaSampler(1), asked)
    assert counts["kept_positions"] == 2
    monkeypatch.setattr(gpu_proof, "draw", draw_wrongly)
    with pytest.raises(AssertionError):
        gpu_proof.check_batch(NumbaSampler(1), asked)
