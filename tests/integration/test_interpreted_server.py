"""A whole server over the kernels for a GPU, interpreted: its replies are those of a server on the CPU, to the bit."""

from __future__ import annotations

import pytest

from tests.support.daemon import Daemon
from tests.support.served_mix import compare_servers


@pytest.mark.slow
async def test_replies_are_those_of_the_cpu() -> None:
    with Daemon("--device", "interpret", "--device-memory", "8MiB") as interpreted, Daemon("--device", "cpu") as cpu:
        await compare_servers(interpreted.address, cpu.address, 24, widths=(5, 300))
        metrics = interpreted.metrics()
        device = '{device="interpret"}'
        launches = metrics[f"samplerd_device_launches_total{device}"]
        batches = metrics[f"samplerd_device_waits_total{device}"]
        assert 0 < 2 * batches <= launches <= 8 * batches
        assert metrics[f"samplerd_device_copies_total{device}"] == batches, "one copy and one wait for a batch"
        assert metrics[f"samplerd_device_memory_limit_bytes{device}"] == 8 << 20
        assert metrics[f"samplerd_device_memory_bytes{device}"] == 0
        assert not [name for name in cpu.metrics() if name.startswith("samplerd_device_")]
