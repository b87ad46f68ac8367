"""Every block of code on the pages that are run says why it is not, if it is not; and those are counted."""

from __future__ import annotations

import collections

import pytest

from tests.support.documents import PAGES, ROOT, blocks_of

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
NOT_RUN = {
    "README.md": 1,  # make
    # transformers and llama-cpp-python; tests/stock_clients/test_transformers.py and tests/peers/test_llama_cpp_loop.py
    "docs/engines.md": 2,
    "docs/from_numpy_torch_jax.md": 1,  # JAX; tests/stock_clients/test_jax.py runs it
    "docs/tutorial_batches.md": 1,  # pip and a server
    "docs/tutorial_grpc_client.md": 1,  # pip and a server
    "docs/tutorial_operator.md": 2,  # a server; what Prometheus reads
}
"""How many blocks of each page do not run. One more has to be written here, with its reason above it on the page."""


def test_blocks_that_do_not_run_are_counted() -> None:
    found = collections.Counter(block.page for block in BLOCKS if block.marker.startswith("not run: "))
    assert dict(found) == NOT_RUN


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.page}-{block.number}")
def test_a_block_runs_or_says_why_not(block) -> None:
    if block.marker.startswith("as in "):
        other = ROOT / block.marker.removeprefix("as in ")
        assert block.text in other.read_text(encoding="utf-8"), f"{other} has no such block any more"
    elif block.language == "text":
        assert block.marker in {"", "prints"}
    else:
        assert block.runs or block.marker.startswith("not run: "), "neither run nor marked as not run"


def test_a_page_that_prints_is_compared() -> None:
    assert sum(block.printed is not None for block in BLOCKS) >= 10
    assert all(block.runs for block in BLOCKS if block.printed is not None)
