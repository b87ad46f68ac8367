"""The program of docs/from_numpy_torch_jax.md that draws with JAX: samplerd follows the same law."""

from __future__ import annotations

import pytest

from tests.stock_clients.run import run
from tests.support.documents import ROOT, blocks_of
from tests.support.same_law import assert_one_law

BLOCKS = [block for block in blocks_of("docs/from_numpy_torch_jax.md") if "import jax" in block.text]
FOLDERS = (ROOT / "client" / "python", ROOT / "protos" / "gen" / "python")


@pytest.mark.stock
def test_jax_and_samplerd_follow_one_law(daemon):
    """Null: both samples are of one law; chi-squared test of two samples at alpha = 1e-6, n as the page says."""
    [block] = BLOCKS
    text = block.text.replace("127.0.0.1:50051", daemon.address)
    drawn = run("arrays", "page_block.py", text, *map(str, FOLDERS))
    assert_one_law(drawn["theirs"], drawn["ours"])
