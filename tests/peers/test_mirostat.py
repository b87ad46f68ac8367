"""The recipe of docs/coming_from.md for mirostat 2, beside llama.cpp's own sampler. n = 300 steps; seeds below."""

from __future__ import annotations

import math
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samplerd_server.core.enums import LogprobKind
from samplerd_server.sampling.reference import pipeline
from tests.peers.environments import ENVIRONMENTS
from tests.support.requests import request
from tests.support.samplers import params

PAGE = Path(__file__).parents[2] / "docs" / "coming_from.md"
STEPS = 300


def recipe() -> dict[str, Any]:
    """The functions as the page has them."""
    text = re.search(r"### Mirostat 2.*?```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert text is not None
    names: dict[str, Any] = {}
    exec(text[1], names)
    return names


def test_the_page_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    recipe()
    assert capsys.readouterr().out == "0.0009765625\n"


def test_mu_below_zero_leaves_the_most_likely_alone() -> None:
    own = recipe()
    row = np.log(np.array([[0.7, 0.2, 0.1]], np.float32))
    outcome = pipeline.sample(request(row, params=(params(epsilon_cutoff=own["epsilon_of"](-3.0)),)))[0]
    assert outcome.samples == (0,)
    assert outcome.kept_count == 1


@pytest.mark.peer
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("tau", "eta"), [(5.0, 0.1), (2.0, 0.3), (0.5, 0.5)])
def test_the_recipe_keeps_and_learns_what_llama_cpp_does(tau: float, eta: float, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    rows = rng.normal(scale=rng.uniform(0.5, 4, (STEPS, 1)), size=(STEPS, 500)).astype(np.float32)
    np.savez(tmp_path / "in.npz", rows=rows, tau=tau, eta=eta, seed=7)
    own = ENVIRONMENTS["llama.cpp"]
    assert own.python.exists(), "llama.cpp is not installed: make test-peers"
    program = own.worker.with_name("llama_cpp_mirostat.py")
    command = [str(own.python), str(program), str(tmp_path / "in.npz"), str(tmp_path / "out.npz")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2_000:]
    theirs = np.load(tmp_path / "out.npz")
    names = recipe()
    mu, exact = 2 * tau, 0
    for step, row in enumerate(rows):
        epsilon = names["epsilon_of"](mu)
        outcome = pipeline.sample(request(row[None], params=(params(epsilon_cutoff=epsilon),)))[0]
        assert outcome.processed is not None
        kept = np.zeros(len(row), bool)
        kept[outcome.processed.ids[outcome.processed.kept]] = True
        differs = np.flatnonzero(kept != theirs["kept"][step])
        probabilities = np.exp(outcome.distributions[LogprobKind.RAW].logprobs)
        assert np.allclose(probabilities[differs], epsilon, rtol=1e-4), f"step {step}: more than float32 differs"
        exact += len(differs) == 0
        token = int(theirs["tokens"][step])  # its draw, so that both follow one path
        logprob = outcome.distributions[LogprobKind.PROCESSED].of(token)
        assert math.isfinite(logprob)
        mu = names["next_mu"](mu, logprob, tau, eta)
        assert mu == pytest.approx(float(theirs["mu"][step]), abs=2e-4)
    assert exact >= 0.98 * STEPS
