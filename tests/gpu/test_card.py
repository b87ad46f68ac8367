"""Our own kernels on a card, as they are served: stored results, random batches, and 10,000 requests of every kind."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
from hypothesis import given, settings

from samplerd_server.batching.pack import pack
from tests.support.daemon import Daemon
from tests.support.golden_rows import KINDS, batch, digest, stored
from tests.support.gpu_rows import changed_rows, same_bits
from tests.support.samplers import make_sampler
from tests.support.served_mix import compare_servers

pytestmark = pytest.mark.gpu
SANITIZER = shutil.which("compute-sanitizer")


@pytest.mark.parametrize("kind", KINDS)
def test_stored_results_are_those_of_the_card(on_card, kind) -> None:
    for _ in range(3):
        assert digest(on_card.sample(pack(batch(kind)))) == stored()[kind]
    assert on_card.card.counts.launches > 0


def test_a_row_has_its_bits_in_any_batch(on_card) -> None:
    requests = [own for kind in KINDS for own in batch(kind)]
    same_bits(on_card.sample(pack(requests)), make_sampler("numba").sample(pack(requests)))
    for own in requests[::7]:
        same_bits(on_card.sample(pack([own])), make_sampler("numba").sample(pack([own])))


@settings(max_examples=500, deadline=None)
@given(changed_rows(most=8))
def test_random_batches_are_those_of_the_cpu(on_card, mix) -> None:
    requests = [row.ask() for row in mix]
    same_bits(on_card.sample(pack(requests)), make_sampler("numba").sample(pack(requests)))
    assert (on_card.device.used_bytes, on_card.locked.used_bytes) == (0, 0)


def test_batches_that_are_on_the_card_together(on_card) -> None:
    kinds = list(KINDS)
    begun = [on_card.begin(pack(batch(kind))) for kind in kinds]
    for kind, finish in zip(kinds, begun, strict=True):
        assert digest(finish()) == stored()[kind]


@pytest.mark.timeout(1_800)
async def test_ten_thousand_requests_of_every_kind() -> None:
    with Daemon("--device", "cuda", "--kernel", "cuda") as card, Daemon("--device", "cpu") as cpu:
        await compare_servers(card.address, cpu.address, 10_000)
        await compare_servers(card.address, cpu.address, 400, widths=(100_000,))  # the CPU draws none of these sooner
        metrics = card.metrics()
        assert metrics['samplerd_device_launches_total{device="cuda:0"}'] > 0
        assert metrics['samplerd_device_lost{device="cuda:0"}'] == 0


@pytest.mark.skipif(SANITIZER is None, reason="compute-sanitizer is not installed")
@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "synccheck", "initcheck"])
@pytest.mark.timeout(1_800)
def test_the_sanitizer_finds_nothing(tool) -> None:
    command = [SANITIZER, "--tool", tool, "--error-exitcode", "9", sys.executable, "-m", "tests.gpu.draw_golden"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1_700, check=False)
    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr[-4_000:]
