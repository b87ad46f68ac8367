"""Merging: what several processes have counted, as one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from samplerd_server.metrics.metrics import Metrics
from samplerd_server.metrics.process_metrics import ProcessMetrics
from samplerd_server.metrics.snapshot import Snapshot, decode, encode
from samplerd_server.process.workers.merge import keep_counts, merge


def snapshot(rows: int = 0, waits: list[float] | None = None, level: float = 0.0) -> Snapshot:
    metrics = Metrics()
    metrics.queue_rows.watch(lambda: level)
    metrics.distributions.watch(lambda: level)
    metrics.build.describe(version="1", device="cpu", kernel="numba", rng="philox")
    metrics.rows.add(rows, "greedy")
    for wait in waits or []:
        metrics.queue_wait_seconds.observe(wait)
    return decode(encode([metrics]))


def value(merged: Snapshot, family: str, sample: str, *labels: tuple[str, str]) -> float:
    return merged[family][sample, labels]


@given(st.lists(st.tuples(st.integers(0, 1 << 40), st.lists(st.sampled_from([1e-6, 3e-3, 99.0])), st.integers(0, 9))))
def test_the_whole_is_the_sum(parts):
    merged = merge([snapshot(), *(snapshot(rows, waits, level) for rows, waits, level in parts)])
    assert value(merged, "samplerd_rows", "samplerd_rows_total", ("path", "greedy")) == sum(own[0] for own in parts)
    assert value(merged, "samplerd_queue_rows", "samplerd_queue_rows") == sum(own[2] for own in parts)
    waits = [wait for own in parts for wait in own[1]]
    name = "samplerd_queue_wait_seconds"
    assert value(merged, name, f"{name}_count") == len(waits)
    assert value(merged, name, f"{name}_bucket", ("le", "0.005")) == sum(wait <= 0.005 for wait in waits)
    assert value(merged, name, f"{name}_bucket", ("le", "+Inf")) == len(waits)
    assert list(merged["samplerd_build"].values()) == [1.0]
    # All workers share the same.
    assert value(merged, "samplerd_distributions", "samplerd_distributions") == max([0, *(own[2] for own in parts)])


def test_merging_changes_nothing_that_went_in():
    one, other = snapshot(rows=1), snapshot(rows=2)
    merge([one, other])
    assert value(one, "samplerd_rows", "samplerd_rows_total", ("path", "greedy")) == 1


def test_of_the_dead_counts_are_kept_and_gauges_are_not():
    kept = keep_counts(snapshot(rows=7, waits=[1.0], level=3.0))
    assert value(kept, "samplerd_rows", "samplerd_rows_total", ("path", "greedy")) == 7
    assert "samplerd_queue_wait_seconds" in kept
    assert not {"samplerd_queue_rows", "samplerd_build"} & set(kept)


def test_a_series_that_only_one_has_is_there():
    with_error, without = Metrics(), Metrics()
    with_error.requests.add(1, "Sample", "INTERNAL")
    merged = merge([decode(encode([without])), decode(encode([with_error])), decode(encode([with_error]))])
    assert value(merged, "samplerd_requests", "samplerd_requests_total", ("rpc", "Sample"), ("code", "INTERNAL")) == 2


def test_limits_and_start_times_are_not_summed():
    def of_process(limit: float, start: float, memory: float) -> Snapshot:
        names = {"process_max_fds": limit, "process_start_time_seconds": start, "process_resident_memory_bytes": memory}
        return {name: {(name, ()): amount} for name, amount in names.items()}

    merged = merge([of_process(20.0, 5.0, 1.0), of_process(10.0, 7.0, 2.0)])
    assert {name: samples[name, ()] for name, samples in merged.items()} == {
        "process_max_fds": 10.0,
        "process_start_time_seconds": 5.0,
        "process_resident_memory_bytes": 3.0,
    }
    # And the names are those that the system's collector has.
    assert set(merged) <= set(decode(encode([ProcessMetrics()])))
