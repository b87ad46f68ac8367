"""The table of metrics: names and texts follow Prometheus' conventions, and every row says what is so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from prometheus_client import ProcessCollector
from prometheus_client.core import GaugeMetricFamily

import samplerd_server
from samplerd_server.batching.policy import Reason
from samplerd_server.metrics.definition import Definition, Label, Merge, definitions_of
from samplerd_server.metrics.instruments import Counter, Gauge, Histogram, Info
from samplerd_server.metrics.process_metrics import ProcessMetrics
from samplerd_server.metrics.rpc_labels import RpcLabels
from samplerd_server.metrics.snapshot import decode, encode
from samplerd_server.metrics.table import BY_NAME, PROCESS, ServerTable, SupervisorTable
from samplerd_server.process.workers.merge import merge
from tests.support.metric_table import family_of

SERVER = Path(str(samplerd_server.__file__)).parent
OWN = (*definitions_of(ServerTable), *definitions_of(SupervisorTable))
ALL = tuple(BY_NAME.values())
ROOT = Path(__file__).parents[3]


def by_name(rows):
    return pytest.mark.parametrize("row", rows, ids=lambda row: row.name)


# What promtool's linter asks for.
@by_name(ALL)
def test_names_follow_the_conventions(row):
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", row.exported_name)
    assert row.exported_name.endswith("_total") == (row.kind is Counter)
    assert not row.name.endswith(("_total", "_bucket", "_count", "_sum", "_info", "_ms", "_us", "_kb", "_mb"))
    assert not {"counter", "gauge", "histogram", "seconds_total"} & set(row.name.split("_"))
    for unit in ("seconds", "bytes"):
        assert row.name.endswith(unit) == (row.unit == unit)
    assert not {"le", "quantile", "job", "instance"} & {label.name for label in row.labels}


@by_name(ALL)
def test_texts_are_whole_sentences(row):
    assert re.fullmatch(r"[A-Z1].*\.", row.help)
    assert "\n" not in row.help
    for label in row.labels:
        assert bool(label.of_rpc) != bool(label.values or label.others), label.name


@by_name(OWN)
def test_who_sets_it_does(row):
    text = (SERVER / row.set_by).read_text(encoding="utf-8")
    if row.set_by.startswith("sampling/cuda/"):  # `app/gauges.py` finds them by their names
        assert f'"{row.attribute}":' in text
    elif row.kind is Gauge and row.attribute != "worker_up":
        assert f"metrics.{row.attribute}.watch(" in (SERVER / "app" / "gauges.py").read_text(encoding="utf-8")
    elif row.set_by == "transport/rpc/observer.py":
        assert "_metrics.rpc_handled(" in text
    elif row.set_by == "distributions/store.py":
        assert "_events.add(" in text
    else:
        assert re.search(rf"\.{row.attribute}\b", text), f"{row.set_by} does not set {row.name}"


@by_name(OWN)
def test_buckets_are_those_of_histograms(row):
    assert (row.buckets is not None) == (row.kind is Histogram)
    if row.buckets is not None:
        assert list(row.buckets.bounds) == sorted(set(row.buckets.bounds))
        assert row.buckets.reason


@by_name(OWN)
def test_what_counts_is_summed_and_nothing_else_stays(row):
    assert row.stays == (row.kind in {Counter, Histogram})
    if row.stays:
        assert row.merge in {Merge.SUM, Merge.PER_WORKER}
    assert (row.merge is Merge.FIRST) == (row.kind is Info)


def test_no_two_metrics_have_one_name():
    assert len(BY_NAME) == sum(1 + len(list(row.deprecated())) for row in (*OWN, *PROCESS))
    assert len({row.exported_name for row in ALL}) == len(ALL)


def test_those_of_the_process_are_what_the_library_shows():
    for collector in (ProcessCollector(registry=None), ProcessMetrics()):
        shown = {(family.name, family.documentation, family.type) for family in collector.collect()}
        assert shown == {(row.name, row.help, row.type) for row in PROCESS}


def test_what_another_release_of_the_library_knows_of_a_process_is_left_out(monkeypatch):
    new = GaugeMetricFamily("process_threads", "Number of threads.", value=3)
    monkeypatch.setattr(
        ProcessCollector, "collect", lambda _: [new, GaugeMetricFamily("process_open_fds", "", value=1)]
    )
    snapshot = decode(encode(ProcessMetrics().read()))
    assert [family.name for family in merge([snapshot]).layout.families] == ["process_open_fds"]


def test_reasons_for_closing_a_batch_are_those_of_the_policy():
    (label,) = BY_NAME["samplerd_batches"].labels
    assert tuple(label.values) == get_args(Reason)


def test_an_old_name_of_a_series_belongs_to_a_metric_that_lives_on():
    for row in OWN:
        for old in row.formerly:
            if old.labels:
                labels = {label.name: label.values for label in BY_NAME[old.name].labels}
                assert set(old.labels) == set(labels)
                assert not any(value in labels[name] for name, value in old.labels.items())
            else:
                assert BY_NAME[old.name].replaced_by == row.exported_name


def test_every_name_is_on_the_page():
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    names = {name.partition("{")[0] for name in re.findall(r"`([^`]+)`", page)}
    assert {row.exported_name for row in ALL} <= names


def test_every_metric_that_another_page_names_is_in_the_table():
    old = {f"{name.name}{row.suffix}" for row in OWN for name in row.formerly if not name.labels}
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")]
    named = {
        (page.name, name)
        for page in pages
        if page.name not in {"metrics.md", "CHANGELOG.md"}
        for name in re.findall(r"`(samplerd_[a-z_]+)[`{]", page.read_text(encoding="utf-8"))
        if not name.startswith(("samplerd_server", "samplerd_client"))
    }
    assert len(named) > 10
    assert {name for _, name in named} <= {row.exported_name for row in ALL} - old, named


def test_a_label_of_rpcs_has_a_series_for_each_and_a_product_with_the_others():
    labels = (Label("rpc", of_rpc="method"), Label("code", {"OK": "", "NO": ""}))
    row = Definition(kind=Counter, help="", set_by="", labels=labels, attribute="things")
    counter = row.make([RpcLabels("s", "One", "unary"), RpcLabels("s", "Two", "unary")])
    values = [tuple(sample.labels.values()) for sample in family_of(counter).samples]
    assert values == [("One", "OK"), ("One", "NO"), ("Two", "OK"), ("Two", "NO")]


def test_a_gauge_has_no_series_of_its_own():
    row = Definition(kind=Gauge, help="", set_by="", labels=(Label("worker"),), attribute="level")
    assert not family_of(row.make()).samples
