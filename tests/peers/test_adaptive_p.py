"""The state of adaptive-p that a reply returns beside llama.cpp's own, over sequences of n = 300 steps."""

from __future__ import annotations

import math
import subprocess
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from samplerd_client import AdaptiveP
from samplerd_server.core.enums import LogprobKind
from samplerd_server.sampling.adaptive_state import next_states
from samplerd_server.sampling.reference import pipeline
from tests.peers.environments import ENVIRONMENTS
from tests.support.requests import request
from tests.support.samplers import params

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.peer, pytest.mark.timeout(600)]

STEPS = 300


@pytest.mark.parametrize(("target", "decay"), [(0.3, 0.9), (0.6, 0.5), (0.05, 0.99)])
def test_the_next_state_is_llama_cpp_s(target: float, decay: float, tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    rows = rng.normal(scale=rng.uniform(0.5, 4, (STEPS, 1)), size=(STEPS, 200)).astype(np.float32)
    np.savez(tmp_path / "in.npz", rows=rows, target=target, decay=decay, seed=7)
    own = ENVIRONMENTS["llama.cpp"]
    assert own.python.exists(), "llama.cpp is not installed: make test-peers"
    program = own.worker.with_name("llama_cpp_adaptive.py")
    command = [str(own.python), str(program), str(tmp_path / "in.npz"), str(tmp_path / "out.npz")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2_000:]
    theirs = np.load(tmp_path / "out.npz")
    state = AdaptiveP(target, decay)
    for step, row in enumerate(rows):
        given = params(**state.fields)
        outcome = pipeline.sample(request(row[None], params=(given,)))[0]
        processed = outcome.distributions[LogprobKind.PROCESSED]
        logprobs = np.full(len(row), -np.inf)
        logprobs[processed.ids] = processed.logprobs
        with np.errstate(divide="ignore"):
            expected = np.log(theirs["weights"][step] / theirs["weights"][step].sum())
        assert np.abs(logprobs - expected).max() < 2e-3, f"step {step}"
        token = int(theirs["tokens"][step])  # its draw, so that both follow one path
        p = math.exp(outcome.distributions[LogprobKind.SCALED].of(token))  # nothing was filtered
        state.update(_reply(*next_states([given], np.array([p]), np.array([False]))))
        assert state.weighted_sum == pytest.approx(float(theirs["state"][step, 0]), rel=1e-5)
        assert state.total_weight == pytest.approx(float(theirs["state"][step, 1]), rel=1e-5)


def _reply(weighted_sum: np.ndarray, total_weight: np.ndarray) -> Any:
    """What `update` reads of a reply with one row and one sample."""
    return SimpleNamespace(
        adaptive_weighted_sum=weighted_sum.reshape(1, 1), adaptive_total_weight=total_weight.reshape(1, 1)
    )
