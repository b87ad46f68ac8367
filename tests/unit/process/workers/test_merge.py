"""Merging: what several processes have counted, as one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from samplerd_server.metrics.metrics import Metrics
from samplerd_server.metrics.process_metrics import ProcessMetrics
from samplerd_server.metrics.series import Family, Layout, Snapshot
from samplerd_server.process.workers.merge import keep_counts, merge


def snapshot(rows: int = 0, waits: list[float] | None = None, level: float = 0.0) -> Snapshot:
    metrics = Metrics()
    metrics.queue_rows.watch(lambda: level)
    metrics.distributions.watch(lambda: level)
    metrics.build.describe(version="1", device="cpu", kernel="numba", rng="philox")
    metrics.rows.add(rows, "greedy")
    for wait in waits or []:
        metrics.queue_wait_seconds.observe(wait)
    return metrics.read()


def value(merged: Snapshot, sample: str, *labels: tuple[str, str]) -> float:
    return merged.by_key()[sample, labels]


def names(merged: Snapshot) -> set[str]:
    return {family.name for family in merged.layout.families}


@given(st.lists(st.tuples(st.integers(0, 1 << 40), st.lists(st.sampled_from([1e-6, 3e-3, 99.0])), st.integers(0, 9))))
def test_the_whole_is_the_sum(parts):
    merged = merge([snapshot(), *(snapshot(rows, waits, level) for rows, waits, level in parts)])
    assert value(merged, "samplerd_rows_total", ("path", "greedy")) == sum(own[0] for own in parts)
    assert value(merged, "samplerd_queue_rows") == sum(own[2] for own in parts)
    waits = [wait for own in parts for wait in own[1]]
    name = "samplerd_queue_wait_seconds"
    assert value(merged, f"{name}_count") == len(waits)
    assert value(merged, f"{name}_bucket", ("le", "0.005")) == sum(wait <= 0.005 for wait in waits)
    assert value(merged, f"{name}_bucket", ("le", "+Inf")) == len(waits)
    assert [amount for (name, _), amount in merged.by_key().items() if name == "samplerd_build_info"] == [1.0]
    # All workers share the same.
    assert value(merged, "samplerd_distributions") == max([0, *(own[2] for own in parts)])


def test_merging_changes_nothing_that_went_in():
    one, other = snapshot(rows=1), snapshot(rows=2)
    merge([one, other])
    assert value(one, "samplerd_rows_total", ("path", "greedy")) == 1


def test_of_the_dead_counts_are_kept_and_gauges_are_not():
    kept = keep_counts(snapshot(rows=7, waits=[1.0], level=3.0))
    assert value(kept, "samplerd_rows_total", ("path", "greedy")) == 7
    assert "samplerd_queue_wait_seconds" in names(kept)
    assert not {"samplerd_queue_rows", "samplerd_build"} & names(kept)
    assert len(kept.values) == len(kept.layout.keys)


def test_a_series_that_only_one_has_is_there():
    with_error, without = Metrics(), Metrics()
    with_error.requests.add(1, "Sample", "INTERNAL")
    merged = merge([without.read(), with_error.read(), with_error.read()])
    assert value(merged, "samplerd_requests_total", ("rpc", "Sample"), ("code", "INTERNAL")) == 2


def test_limits_and_start_times_are_not_summed():
    def of_process(limit: float, start: float, memory: float) -> Snapshot:
        found = {"process_max_fds": limit, "process_start_time_seconds": start, "process_resident_memory_bytes": memory}
        return Snapshot(Layout([Family(name, "", "gauge", ((name, ()),)) for name in found]), list(found.values()))

    merged = merge([of_process(20.0, 5.0, 1.0), of_process(10.0, 7.0, 2.0)])
    assert {name: amount for (name, _), amount in merged.by_key().items()} == {
        "process_max_fds": 10.0,
        "process_start_time_seconds": 5.0,
        "process_resident_memory_bytes": 3.0,
    }
    # And the names are those that the system's collector has.
    assert names(merged) <= names(ProcessMetrics().read())


def test_what_a_worker_counted_goes_on_with_the_one_that_replaces_it():
    def of_worker(number: str, calls: float) -> Snapshot:
        metrics = Metrics()
        metrics.worker_calls.watch(lambda: calls, number)
        metrics.worker_connections.watch(lambda: 1.0, number)
        return metrics.read()

    past = keep_counts(of_worker("1", 5.0))
    merged = merge([past, of_worker("0", 2.0), of_worker("1", 3.0)])
    assert value(merged, "samplerd_worker_calls_total", ("worker", "0")) == 2
    assert value(merged, "samplerd_worker_calls_total", ("worker", "1")) == 8
    assert value(merged, "samplerd_worker_connections", ("worker", "1")) == 1
