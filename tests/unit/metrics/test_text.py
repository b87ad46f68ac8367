"""Pages of metrics are what prometheus_client would write, character by character."""

from __future__ import annotations

import gzip
import http.client

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_open_metrics
from prometheus_client.registry import Collector

from samplerd_server.metrics.exporter import Exporter
from samplerd_server.metrics.process_metrics import ProcessMetrics
from samplerd_server.metrics.series import Family, Layout, Snapshot
from samplerd_server.metrics.text import write
from tests.unit.metrics.test_metrics import full

WRITERS = pytest.mark.parametrize(
    ("is_open_metrics", "reference"), [(False, generate_latest), (True, generate_open_metrics)], ids=["text", "open"]
)


class Shown(Collector):
    def __init__(self, snapshot):
        self._snapshot = snapshot

    def collect(self):
        return self._snapshot.metrics()


def by_library(snapshot, reference) -> str:
    registry = CollectorRegistry()
    registry.register(Shown(snapshot))
    return reference(registry).decode()


@WRITERS
def test_every_metric_is_written_as_the_library_writes_it(is_open_metrics, reference):
    metrics = full()
    metrics.rows.add(1234567, "random")
    metrics.compute_seconds.observe(0.0125)
    for snapshot in (metrics.read(), metrics.read(), ProcessMetrics().read(), Snapshot(Layout(()), ())):
        assert write(snapshot, is_open_metrics=is_open_metrics) == by_library(snapshot, reference)


VALUES = (st.floats() | st.integers(0, 1 << 60).map(float)).map(lambda value: value + 0.0)  # no metric is -0.0
WORDS = st.text(st.sampled_from('ab"\\\n{},= é'), max_size=8)


@WRITERS
@given(values=st.lists(VALUES, min_size=1, max_size=6), words=st.lists(WORDS, min_size=6, max_size=6), text=WORDS)
def test_any_value_and_any_text_are_too(is_open_metrics, reference, values, words, text):
    keys = tuple(("own", (("b", words[at]), ("a", str(at)))) for at in range(len(values)))
    snapshot = Snapshot(Layout([Family("own", text, "gauge", keys)]), values)
    assert write(snapshot, is_open_metrics=is_open_metrics) == by_library(snapshot, reference)


def test_a_scraper_gets_the_format_and_the_encoding_that_it_asks_for():
    exporter = Exporter("127.0.0.1:0", metrics := full())
    port = exporter.start()

    def ask(**headers):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/metrics", headers={name.replace("_", "-"): own for name, own in headers.items()})
        reply = connection.getresponse()
        body = reply.read()
        connection.close()
        return reply.headers["Content-Type"].partition(";")[0], reply.headers["Content-Encoding"], body

    try:
        plain = write(metrics.read(), is_open_metrics=False).encode()
        assert ask() == ("text/plain", None, plain)
        kind, encoding, body = ask(Accept_Encoding="gzip")
        assert (kind, encoding, gzip.decompress(body)) == ("text/plain", "gzip", plain)
        kind, _, body = ask(Accept="application/openmetrics-text;version=1.0.0")
        assert kind == "application/openmetrics-text"
        assert body.endswith(b"# EOF\n")
    finally:
        exporter.stop()
