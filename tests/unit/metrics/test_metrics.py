"""Metrics: what a scrape shows is valid, complete from the start, and adds up."""

from __future__ import annotations

import http.client
import math
import urllib.request
from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from samplerd_server.core.enums import RowErrorReason
from samplerd_server.core.errors import Code
from samplerd_server.metrics.definition import Merge, definitions_of
from samplerd_server.metrics.exporter import Exporter, Page
from samplerd_server.metrics.instruments import Counter, Gauge, Histogram
from samplerd_server.metrics.metrics import Metrics, SupervisorMetrics
from samplerd_server.metrics.process_metrics import ProcessMetrics
from samplerd_server.metrics.rpc_labels import RpcLabels
from samplerd_server.metrics.table import ServerTable
from tests.support.metric_table import family_of

SERVICE = "samplerd.v1.SamplerService"
RPCS = (
    RpcLabels(SERVICE, "Sample", "unary"),
    RpcLabels(SERVICE, "SampleStream", "bidi_stream"),
    RpcLabels("inference.GRPCInferenceService", "ModelInfer", "unary"),
)


def scrape(metrics: Metrics | SupervisorMetrics) -> dict:
    """Family by name, as Prometheus reads the text."""
    registry = CollectorRegistry()
    registry.register(metrics)
    families = list(text_string_to_metric_families(generate_latest(registry).decode()))
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    return {family.name: family for family in families}


def series(family) -> dict:
    return {(sample.name, *sorted(sample.labels.items())): sample.value for sample in family.samples}


# Those that the contract promises to operators.
PROMISED = {
    "samplerd_requests": ("counter", {"rpc", "code"}),
    "samplerd_rows": ("counter", {"path"}),
    "samplerd_samples": ("counter", set()),
    "samplerd_input_bytes": ("counter", set()),
    "samplerd_batches": ("counter", {"reason"}),
    "samplerd_row_errors": ("counter", {"reason"}),
    "samplerd_shed": ("counter", {"reason"}),
    "samplerd_cancelled": ("counter", {"stage"}),
    "samplerd_shared_memory_bytes": ("counter", set()),
    "samplerd_shared_memory_errors": ("counter", {"code"}),
    "samplerd_shared_memory_read_seconds": ("histogram", set()),
    "samplerd_distribution_events": ("counter", {"event"}),
    "samplerd_expired": ("counter", set()),
    "samplerd_indexed_samples": ("counter", set()),
    "samplerd_table_samples": ("counter", set()),  # deprecated
    "samplerd_batch_rows": ("histogram", set()),
    "samplerd_queue_wait_seconds": ("histogram", set()),
    "samplerd_compute_seconds": ("histogram", set()),
    "samplerd_request_seconds": ("histogram", {"rpc"}),
    "grpc_server_started": ("counter", {"grpc_type", "grpc_service", "grpc_method"}),
    "grpc_server_handled": ("counter", {"grpc_type", "grpc_service", "grpc_method", "grpc_code"}),
    "samplerd_other_calls": ("counter", {"kind"}),
    "samplerd_transport_wait_seconds": ("histogram", set()),
    "samplerd_transport_waiting_calls": ("gauge", set()),
    "samplerd_queue_rows": ("gauge", set()),
    "samplerd_queue_bytes": ("gauge", set()),
    "samplerd_incoming_bytes": ("gauge", set()),
    "samplerd_reply_bytes": ("gauge", set()),
    "samplerd_queue_limit_rows": ("gauge", set()),
    "samplerd_queue_limit_bytes": ("gauge", set()),
    "samplerd_batch_limit_rows": ("gauge", set()),
    "samplerd_distribution_limit": ("gauge", set()),
    "samplerd_distribution_limit_bytes": ("gauge", set()),
    "samplerd_in_flight_requests": ("gauge", set()),
    "samplerd_distributions": ("gauge", set()),
    "samplerd_distribution_bytes": ("gauge", set()),
    "samplerd_shared_memory_idle_bytes": ("gauge", set()),
    "samplerd_source_rows": ("counter", {"source"}),
    "samplerd_dtype_rows": ("counter", {"dtype"}),
    "samplerd_vocabulary_rows": ("counter", {"up_to"}),
    "samplerd_filter_rows": ("counter", {"filter"}),
    "samplerd_unread_calls": ("counter", {"stage"}),
    "samplerd_worker_calls": ("counter", {"worker"}),
    "samplerd_worker_event_loop_cpu_seconds": ("counter", {"worker"}),
    "samplerd_worker_device_cpu_seconds": ("counter", {"worker"}),
    "samplerd_worker_connections": ("gauge", {"worker"}),
    "samplerd_certificate_expiry_timestamp_seconds": ("gauge", set()),
    "samplerd_device_launches": ("counter", {"device"}),
    "samplerd_device_memory_bytes": ("gauge", {"device"}),
    "samplerd_build_info": ("gauge", {"version", "device", "kernel", "rng"}),
}


def full() -> Metrics:
    metrics = Metrics(RPCS)
    for definition in definitions_of(ServerTable):
        values = ("0",) if definition.merge is Merge.PER_WORKER else ()
        if definition.set_by.startswith("sampling/cuda/"):
            values = ("cuda:0",)
        if definition.kind is Gauge:
            getattr(metrics, definition.attribute).watch(lambda: 3.0, *values)
        elif values:
            getattr(metrics, definition.attribute).watch(lambda: 0.0, *values)
    metrics.build.describe(version="1", device="cpu", kernel="numba", rng="philox")
    return metrics


def test_every_promised_series_is_there_from_the_start():
    families = scrape(full())
    for name, (kind, labels) in PROMISED.items():
        family = families[name]
        assert family.type == kind, name
        assert family.documentation
        assert family.samples, name
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == labels, name
            if kind != "gauge":
                assert sample.value == 0.0, name
    table = {old.name for row in definitions_of(ServerTable) for old in (row, *row.deprecated())}
    assert {name.removesuffix("_info") for name in families} == table


def test_zero_series_of_every_label_are_there():
    families = scrape(full())
    label_values = {name: {tuple(s.labels.values()) for s in families[name].samples} for name in families}
    assert label_values["samplerd_batches"] == {("full",), ("idle",), ("delay",), ("deadline",), ("slice",)}
    assert label_values["samplerd_rows"] == {("greedy",), ("random",)}
    assert label_values["samplerd_cancelled"] == {("queued",), ("computed",), ("expired",)}
    sizes = {("queue_rows",), ("queue_bytes",), ("incoming_bytes",), ("reply_bytes",), ("message_bytes",)}
    bounds = sizes | {("queue_wait",), ("resets",), ("waiting_calls",)}
    assert label_values["samplerd_shed"] == bounds | {("deadline",), ("draining",), ("engine_gone",)}
    assert label_values["samplerd_row_errors"] == {(reason.name.lower(),) for reason in RowErrorReason if reason}
    rpcs = {sample.labels["rpc"] for sample in families["samplerd_requests"].samples}
    assert rpcs == {"Sample", "SampleStream", "ModelInfer"}
    for name in ("grpc_server_started", "grpc_server_handled"):
        labels = ("grpc_service", "grpc_method", "grpc_type")
        told = {tuple(sample.labels[label] for label in labels) for sample in families[name].samples}
        assert told == {tuple(rpc[:3]) for rpc in RPCS}


def test_two_rpcs_of_one_name_are_refused():
    with pytest.raises(ValueError, match="Sample"):
        Metrics([*RPCS, RpcLabels("another.Service", "Sample", "unary")])


def test_names_are_those_that_prometheus_wants():
    for name, family in scrape(full()).items():
        if family.type == "counter":
            assert all(sample.name == f"{name}_total" for sample in family.samples)
        assert not name.endswith(("_total", "_ms", "_us"))


def test_gauges_are_read_at_the_scrape():
    metrics = Metrics()
    level = [1.0]
    metrics.queue_rows.watch(lambda: level[0])
    assert scrape(metrics)["samplerd_queue_rows"].samples[0].value == 1.0
    level[0] = 7.0
    assert scrape(metrics)["samplerd_queue_rows"].samples[0].value == 7.0


def test_a_gauge_that_nobody_reads_is_not_shown():
    families = scrape(Metrics())
    assert "samplerd_queue_rows" not in families
    assert "samplerd_build_info" not in families


def test_information_has_the_labels_of_the_table():
    with pytest.raises(ValueError, match="rng"):
        Metrics().build.describe(version="1")


def test_old_names_are_shown_with_the_same_values():
    metrics = Metrics()
    metrics.indexed_samples.add(5)
    metrics.expired.add(2)
    metrics.cancelled.add(3, "queued")
    families = scrape(metrics)
    old, new = families["samplerd_table_samples"], families["samplerd_indexed_samples"]
    assert old.samples[0].value == new.samples[0].value == 5
    assert old.documentation == f"Deprecated, use samplerd_indexed_samples_total. {new.documentation}"
    assert families["samplerd_expired"].samples[0].value == 2
    stages = {sample.labels["stage"]: sample.value for sample in families["samplerd_cancelled"].samples}
    assert stages == {"queued": 3, "computed": 0, "expired": 2}


@pytest.mark.parametrize("instrument", [Counter("c", "C.", ("a",)), Histogram("h", "H.", [1.0]), Gauge("g", "G.")])
def test_a_renamed_instrument_shows_what_is_set_later(instrument):
    other = instrument.renamed("new", "New.")
    match instrument:
        case Counter():
            instrument.add(2, "x")
        case Histogram():
            instrument.observe(0.5)
        case Gauge():
            instrument.watch(lambda: 7.0)
    values = [sample.value for sample in family_of(instrument).samples]
    assert sum(values) > 0
    assert [sample.value for sample in family_of(other).samples] == values
    assert (family_of(other).name, family_of(other).documentation) == ("new", "New.")


def test_the_supervisor_has_a_series_for_each_worker():
    metrics = SupervisorMetrics(["0", "1"])
    metrics.worker_up.watch(lambda: 1.0, "0")
    metrics.worker_restarts.add(4, "1")
    families = scrape(metrics)
    assert series(families["samplerd_worker_up"]) == {("samplerd_worker_up", ("worker", "0")): 1}
    assert list(series(families["samplerd_worker_restarts"]).values()) == [0, 4]


def test_a_unary_call_is_also_a_request_and_a_stream_counts_its_own():
    metrics = Metrics(RPCS)
    metrics.rpc_started("Sample")
    metrics.rpc_handled("Sample", Code.INVALID_ARGUMENT, 0.5)
    metrics.rpc_started("SampleStream")
    for _ in range(3):
        metrics.requests_answered("SampleStream", Code.OK, 0.25)
    metrics.rpc_handled("SampleStream", Code.OK, 9.0)
    assert metrics.requests.value("Sample", "INVALID_ARGUMENT") == 1
    assert metrics.requests.value("SampleStream", "OK") == 3
    families = scrape(metrics)
    time = series(families["samplerd_request_seconds"])
    assert time["samplerd_request_seconds_sum", ("rpc", "Sample")] == 0.5
    assert time["samplerd_request_seconds_sum", ("rpc", "SampleStream")] == 0.75
    grpc = (
        ("grpc_method", "SampleStream"),
        ("grpc_service", "samplerd.v1.SamplerService"),
        ("grpc_type", "bidi_stream"),
    )
    assert series(families["grpc_server_started"])["grpc_server_started_total", *grpc] == 1


@pytest.mark.parametrize(
    ("code", "name"),
    [(Code.OK, "OK"), (Code.INVALID_ARGUMENT, "InvalidArgument"), (Code.RESOURCE_EXHAUSTED, "ResourceExhausted")],
)
def test_codes_are_written_as_the_ecosystem_does(code, name):
    metrics = Metrics(RPCS)
    metrics.rpc_handled("Sample", code, 0.1)
    handled = [s for s in scrape(metrics)["grpc_server_handled"].samples if s.value]
    assert [sample.labels["grpc_code"] for sample in handled] == [name]


def test_a_counter_can_show_what_somebody_else_counts():
    counter, counted = Counter("c", "C.", ("a",), [("x",), ("y",)]), [1.0]
    counter.watch(lambda: counted[0], "x")
    counter.add(2, "y")
    counted[0] = 5.0
    assert {sample.labels["a"]: sample.value for sample in family_of(counter).samples} == {"x": 5, "y": 2}


def test_codes_of_callers_who_are_refused_exist_where_they_can_be_given():
    refusals = ("UNAUTHENTICATED", "PERMISSION_DENIED")
    families = scrape(Metrics([rpc._replace(refusals=refusals) for rpc in RPCS]))
    assert set(refusals) <= {own.labels["code"] for own in families["samplerd_requests"].samples}
    shown = {own.labels["grpc_code"] for own in families["grpc_server_handled"].samples}
    assert {"Unauthenticated", "PermissionDenied"} <= shown
    assert not set(refusals) & {own.labels["code"] for own in scrape(full())["samplerd_requests"].samples}


def test_a_counter_adds_by_label():
    counter = Counter("c", "C.", ("a",), [("x",)])
    counter.add(2, "x")
    counter.add(1, "y")
    assert (counter.value("x"), counter.value("y"), counter.value("z")) == (2, 1, 0)
    assert [sample.value for sample in family_of(counter).samples] == [2, 1]


@given(st.lists(st.floats(0, 20), max_size=50), st.lists(st.floats(1e-3, 10), min_size=1, max_size=8, unique=True))
def test_buckets_are_cumulative_and_their_bounds_belong_to_them(amounts, bounds):
    bounds = sorted(bounds)
    histogram = Histogram("h", "H.", bounds)
    for amount in [*amounts, bounds[0]]:
        histogram.observe(amount)
    amounts = [*amounts, bounds[0]]
    samples = {(s.name, s.labels.get("le")): s.value for s in family_of(histogram).samples}
    for bound in bounds:
        assert samples["h_bucket", str(bound)] == sum(amount <= bound for amount in amounts)
    assert samples["h_bucket", "+Inf"] == samples["h_count", None] == len(amounts)
    assert math.isclose(samples["h_sum", None], sum(amounts), rel_tol=1e-9)


def test_the_finest_buckets_are_ten_microseconds():
    (family,) = [f for f in Metrics().collect() if f.name == "samplerd_compute_seconds"]
    bounds = [float(s.labels["le"]) for s in family.samples if s.name.endswith("_bucket")]
    assert bounds[0] == 1e-5
    assert bounds[-2:] == [10.0, math.inf]
    assert bounds == sorted(bounds)


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:0"])
def test_the_exporter_serves_and_frees_its_port(listen):
    metrics = full()
    metrics.samples.add(5)
    exporter = Exporter(listen, metrics, ProcessMetrics())
    port = exporter.start()
    with urllib.request.urlopen(f"http://localhost:{port}/metrics", timeout=10) as reply:
        text = reply.read().decode()
    assert "samplerd_samples_total 5.0" in text
    assert "process_resident_memory_bytes" in text
    exporter.stop()
    exporter.stop()
    again = Exporter(f"127.0.0.1:{port}", metrics)
    assert again.start() == port
    again.stop()


@pytest.fixture
def served():
    metrics = full()
    metrics.samples.add(5)
    exporter = Exporter("127.0.0.1:0", metrics, ProcessMetrics())
    exporter.add("/hello", lambda query: Page(f"hello {query}\n", HTTPStatus.ACCEPTED))
    port = exporter.start()
    yield lambda path, method="GET": _ask(port, path, method)
    exporter.stop()


def _ask(port, path, method):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path)
    reply = connection.getresponse()
    text = reply.read().decode()
    connection.close()
    return reply.status, text


def test_a_scrape_can_ask_for_some_metrics_by_their_names_and_by_those_of_their_series(served):
    status, text = served("/metrics?name[]=samplerd_samples_total&name[]=samplerd_batch_rows_count")
    assert status == 200
    assert "samplerd_samples_total 5.0" in text
    assert [line for line in text.splitlines() if line[0] != "#"] == [
        "samplerd_samples_total 5.0",
        "samplerd_batch_rows_count 0.0",
    ]
    status, text = served("/metrics?name[]=samplerd_batch_rows")
    assert (status, text.count("samplerd_batch_rows_bucket")) == (200, 14)
    assert served("/metrics?name[]=no_such_metric") == (200, "")


@pytest.mark.parametrize("path", ["/", "/healthz", "/metrics/", "/favicon.ico", "/metricsx"])
def test_a_path_that_nobody_added_is_not_found(served, path):
    status, text = served(path)
    assert status == 404
    assert text == "There is no such page. There are: /metrics, /hello\n"


def test_a_page_that_was_added_sees_the_query_and_chooses_the_status(served):
    assert served("/hello?verbose") == (202, "hello verbose\n")


@pytest.mark.parametrize("path", ["/hello", "/metrics"])
def test_pages_are_only_read(served, path):
    assert served(path, "POST")[0] == 405
    status, text = served(path, "HEAD")
    assert status == served(path)[0]
    assert not text


def test_a_taken_port_is_an_error():
    exporter = Exporter("127.0.0.1:0", Metrics())
    port = exporter.start()
    with pytest.raises(OSError, match="in use"):
        Exporter(f"127.0.0.1:{port}", Metrics()).start()
    exporter.stop()


def test_a_series_that_is_watched_after_a_scrape_keeps_its_place():
    counter = Counter("c", "C.", ("a",), [("x",), ("y",)])
    counter.add(2, "y")
    counter.read()
    counter.watch(lambda: 1.0, "x")
    assert {sample.labels["a"]: sample.value for sample in family_of(counter).samples} == {"x": 1, "y": 2}


def test_without_a_card_it_has_no_series():
    families = scrape(Metrics(RPCS))
    assert not [
        sample for name, own in families.items() if name.startswith("samplerd_device_") for sample in own.samples
    ]
