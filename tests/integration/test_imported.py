"""What a server imports: nothing that it does not use, so that it stays small and starts soon."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np

from samplerd_client import SyncSamplerClient
from tests.support import tell_modules
from tests.support.daemon import Daemon

LOGITS = np.linspace(0, 3, 64, dtype=np.float32)


def imported(tmp_path: Path, *flags: str, env: dict[str, str] | None = None) -> set[str]:
    """Serve one call of each kind, and give the top-level names of the modules that the server had at its end."""
    file = tmp_path / "modules.json"
    with (
        Daemon(*flags, within=(sys.executable, tell_modules.__file__, str(file)), env=env) as daemon,
        SyncSamplerClient(daemon.address, timeout_s=120.0) as client,
    ):
        assert client.sample(LOGITS, seed=1).samples.size == 1
        assert client.sample(LOGITS, seed=1, temperature=0.7, top_k=20, top_p=0.9, num_samples=3).samples.size == 3
        client.create_distribution(LOGITS, name="words")
        assert client.sample(distribution="words", num_samples=3, seed=1).samples.size == 3
        assert len(client.verify_draft(np.stack([LOGITS, LOGITS]), [63], seed=1).samples) >= 1
        assert client.server_info().torch_version
        assert daemon.metrics()
    return {name.partition(".")[0] for name in json.loads(file.read_text())}


def test_a_cpu_that_draws_with_linked_kernels_does_without_torch_and_the_compiler(tmp_path: Path) -> None:
    assert not imported(tmp_path, "--device", "cpu", "--kernel", "numba") & {"torch", "triton", "numba", "llvmlite"}


def test_the_portable_sampler_imports_torch_and_no_compiler(tmp_path: Path) -> None:
    assert imported(tmp_path, "--device", "cpu", "--kernel", "torch") & {"torch", "llvmlite"} == {"torch"}


def test_without_linked_kernels_the_compiler_is_imported(tmp_path: Path) -> None:
    """With a setting of numba's own nothing is linked; what its cache holds is loaded."""
    folder = tmp_path / "caches"
    environment = os.environ | {"NUMBA_DEBUG_CACHE": "0", "XDG_CACHE_HOME": str(folder)}
    assert "llvmlite" in imported(tmp_path, "--device", "cpu", "--kernel", "numba", env=environment)
    assert not list(folder.rglob("linked-*"))
