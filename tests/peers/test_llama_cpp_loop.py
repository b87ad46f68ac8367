"""The loop of llama-cpp-python with samplerd beside llama.cpp's own chain: one law, argmax, seeds, ends of texts."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.peers.environments import ENVIRONMENTS
from tests.support.daemon import Daemon
from tests.support.documents import blocks_of
from tests.support.regions import PREFIX
from tests.support.same_law import assert_one_law

pytestmark = [pytest.mark.peer, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
FOLDERS = [str(ROOT / "client" / "python"), str(ROOT / "protos" / "gen" / "python"), str(ROOT)]


@pytest.fixture(scope="module")
def daemon():
    with Daemon("--shared-memory-prefix", PREFIX) as daemon:
        yield daemon


def run(program: str, *arguments: str) -> Any:
    """Run a program of `workers/` in llama.cpp's environment, and return what it printed as JSON."""
    own = ENVIRONMENTS["llama.cpp"]
    assert own.python.exists(), "llama.cpp is not installed: make test-peers"
    # Nothing of this process's environment: the program finds samplerd's client in the folders it is given.
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [str(own.python), "-W", "error", str(own.worker.with_name(program)), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500, env=variables)
    assert done.returncode == 0, f"{program} ended with {done.returncode}:\n{done.stderr[-4_000:]}"
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def answer(daemon, tmp_path_factory) -> Any:
    return run("llama_cpp_loop.py", daemon.address, PREFIX, str(tmp_path_factory.mktemp("gguf")), *FOLDERS)


def test_samplerd_and_the_chain_follow_one_law(answer) -> None:
    """Null: both samples are of one law. Two tokens after one prompt, n = 8,064 each; seed 20261130, alpha = 1e-6."""
    assert len(answer["laws"]) == 6
    for theirs, ours in answer["laws"].values():
        assert len(ours) == 8_064
        assert_one_law([pair[:1] for pair in theirs], [pair[:1] for pair in ours])
        # A first token that ends the text has no second one.
        assert_one_law([[*pair, -1][:2] for pair in theirs], [[*pair, -1][:2] for pair in ours])


def test_the_argmax_is_the_same_under_every_setting(answer) -> None:
    greedy = answer["greedy"]
    assert len(greedy) == 6
    assert greedy["nothing"][1] == answer["llama.cpp's greedy sampler"]
    for name, (theirs, ours) in greedy.items():
        assert ours == theirs, name
    same = [name for name, (theirs, _) in greedy.items() if theirs == greedy["nothing"][0]]
    assert same == ["nothing"], "a setting that changes nothing proves nothing"


def test_a_text_ends_with_the_token_that_ends_it(answer) -> None:
    theirs, ours = answer["ended"]
    plain = answer["llama.cpp's greedy sampler"]
    assert ours == theirs
    assert ours[1] == plain[1][:3]
    assert max(map(len, ours)) == 12


def test_rows_are_read_where_llama_cpp_keeps_them(answer) -> None:
    assert answer["in place"]


def test_seeds_decide_in_any_batch(answer) -> None:
    first, again, other = answer["seeded"]
    assert first == again != other
    assert answer["alone"][0] == answer["alone"][1]
    assert answer["in small batches"] == first


def test_the_program_of_the_page(daemon, tmp_path) -> None:
    [block] = [block for block in blocks_of("docs/engines.md") if "LlamaCppSampler" in block.text]
    text = block.text.replace("127.0.0.1:50051", daemon.address).replace('"logits-"', repr(PREFIX))
    assert 'b"model.gguf"' in text
    texts = run("llama_cpp_page.py", text, str(tmp_path / "model.gguf"), *FOLDERS)
    assert [len(own) for own in texts] == [5, 5]
    assert all(0 <= token < 151_936 for own in texts for token in own)
