"""More requests than the device can do, on a clock that the test moves: what those that are let in wait."""

from __future__ import annotations

import numpy as np
import pytest

from samplerd_server.batching.admission import Admission
from samplerd_server.batching.ticket import NO_DEADLINE, Ticket
from samplerd_server.config import AdmissionConfig, BatchingConfig
from samplerd_server.core.errors import OverloadedError
from tests.support.bench import Bench
from tests.support.requests import Reply, request

CALL_S = 3.5e-3
"""What the device takes for one request."""
LIMIT_S = 8 * CALL_S
REQUESTS = 2_000


class Device:
    """Draws in its own time: the requests of each batch one after the other."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._end = 0.0
        self.busy_s = 0.0

    def run_until(self, moment: float) -> None:
        """Finish all batches that end before this moment."""
        bench = self._bench
        while bench.device.submitted and self._ends() <= moment:
            seconds = CALL_S * bench.device.sizes()[0]
            self.busy_s += seconds
            bench.now, self._end = self._end, 0.0
            bench.finish(compute_s=seconds)
        bench.now = moment

    def _ends(self) -> float:
        if not self._end:
            self._end = self._bench.now + CALL_S * self._bench.device.sizes()[0]
        return self._end


def offer(monkeypatch, share: float) -> tuple[np.ndarray, float]:
    """Offer this share of what the device can do; gives the seconds of those let in, and how busy the device was."""
    bench = Bench(monkeypatch)
    admission = Admission(
        AdmissionConfig(max_queue_wait_s=LIMIT_S),
        queue=bench.queue,
        slicer=bench.slicer,
        device=bench.batcher.device,
        cost_model=bench.cost_model,
    )
    for requests in (1, 2, 3) * 20:
        bench.cost_model.learn(int(1e9 * CALL_S * requests), CALL_S * requests)
    device = Device(bench)
    began, durations = bench.now, []
    for gap in np.random.default_rng(1).exponential(CALL_S / share, REQUESTS):
        device.run_until(bench.now + gap)
        one = Ticket(request(np.zeros((1, 4)), work=int(1e9 * CALL_S)), bench.now, NO_DEADLINE, "a", Reply())
        try:
            admission.check(one, bench.now)
        except OverloadedError:
            continue
        one.reply.add_done_callback(lambda _, came=bench.now: durations.append(bench.now - came))
        bench.batcher.enqueue(one)
        bench.loop.turn()
    return np.array(durations), device.busy_s / (bench.now - began)


def test_who_is_let_in_waits_no_longer_than_the_limit_and_a_batch(monkeypatch):
    durations, busy = offer(monkeypatch, 3.0)
    assert len(durations) > REQUESTS / 4
    # The slowest has the limit before it, and is the last of a batch that holds what may run in a slice.
    assert durations.max() <= LIMIT_S + BatchingConfig().max_slice_s
    assert busy > 0.99


def test_three_times_what_the_device_can_do_adds_at_most_half_to_what_is_waited_below_it(monkeypatch):
    over, below = (np.percentile(offer(monkeypatch, share)[0], 99) for share in (3.0, 0.8))
    assert over <= 1.5 * below


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_below_what_the_device_can_do_nearly_all_are_let_in(monkeypatch, share):
    durations, _ = offer(monkeypatch, share)
    assert len(durations) > 0.97 * REQUESTS
