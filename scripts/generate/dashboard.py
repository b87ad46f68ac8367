"""deploy/grafana/samplerd.json: a dashboard of Grafana, one row for each question that an operator asks.

`ROWS` says everything; the rest is Grafana's form. ``$s`` in a query stands for the labels that choose the servers.
Tests run every query against a Prometheus under load.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

__all__ = ["ROWS", "Panel", "Query", "page"]

_SERVERS = 'job=~"$job",instance=~"$instance"'
_WIDTH, _HEIGHT, _PANELS_IN_LINE = 24, 8, 3


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel."""

    text: str
    """PromQL, with ``$s`` for the labels of the chosen servers."""
    legend: str
    """What a line is called, with labels as ``{{name}}``."""

    @property
    def expression(self) -> str:
        """PromQL, with Grafana's variables."""
        return self.text.replace("$s", _SERVERS)


@dataclass(frozen=True, slots=True)
class Panel:
    """One graph."""

    title: str
    unit: str
    """Grafana's name: ``s``, ``reqps``, ``percentunit``, ``bytes``, ``short`` and so on."""
    queries: tuple[Query, ...]


def _rate(name: str, by: str = "", labels: str = "", over: str = "$__rate_interval") -> str:
    chosen = f"$s,{labels}" if labels else "$s"
    return f"sum{f' by ({by})' if by else ''} (rate({name}{{{chosen}}}[{over}]))"


def _ratio(some: str, all_of: str, labels: str = "") -> str:
    return f"{_rate(some, labels=labels)} / {_rate(all_of)}"


def _quantile(share: float, name: str, by: str = "", labels: str = "") -> Query:
    inner = _rate(f"{name}_bucket", f"le, {by}" if by else "le", labels)
    return Query(f"histogram_quantile({share:g}, {inner})", f"p{share * 100:g}{f' {{{{{by}}}}}' if by else ''}")


def _quantiles(name: str) -> tuple[Query, ...]:
    return tuple(_quantile(share, name) for share in (0.5, 0.9, 0.99))


def _mean(name: str, legend: str) -> Query:
    return Query(_ratio(f"{name}_sum", f"{name}_count"), legend)


def _by(title: str, name: str, label: str, unit: str = "reqps", labels: str = "") -> Panel:
    return Panel(title, unit, (Query(_rate(name, label, labels), f"{{{{{label}}}}}"),))


ROWS: dict[str, tuple[Panel, ...]] = {
    "Is it up?": (
        Panel("Servers that answer", "short", (Query("sum by (instance) (up{$s})", "{{instance}}"),)),
        Panel(
            "Workers that answer",
            "short",
            (
                Query("sum by (instance) (samplerd_worker_up{$s})", "{{instance}}"),
                Query("sum by (instance) (increase(samplerd_worker_restarts_total{$s}[1h]))", "{{instance}} restarts"),
            ),
        ),
        Panel(
            "Days until the certificate expires",
            "d",
            (Query("(samplerd_certificate_expiry_timestamp_seconds{$s} - time()) / 86400", "{{instance}}"),),
        ),
    ),
    "Is it fast?": (
        Panel("Time of a request, from its arrival at the transport", "s", _quantiles("samplerd_request_seconds")),
        Panel("99th percentile by RPC", "s", (_quantile(0.99, "samplerd_request_seconds", "rpc"),)),
        Panel(
            "Requests slower than 100 ms",
            "percentunit",
            (
                Query(
                    "1 - " + _ratio("samplerd_request_seconds_bucket", "samplerd_request_seconds_count", 'le="0.1"'),
                    "share",
                ),
            ),
        ),
    ),
    "Where does the time go?": (
        Panel(
            "Mean time of each stage",
            "s",
            (
                _mean("samplerd_transport_wait_seconds", "in the transport"),
                _mean("samplerd_queue_wait_seconds", "in the queue"),
                _mean("samplerd_compute_seconds", "at the device, a batch"),
                _mean("samplerd_request_seconds", "in all"),
            ),
        ),
        Panel("Wait in the transport", "s", _quantiles("samplerd_transport_wait_seconds")),
        Panel(
            "Processor time",
            "percentunit",
            (
                Query(_rate("samplerd_worker_event_loop_cpu_seconds_total", "instance, worker"), "loop {{worker}}"),
                Query(_rate("samplerd_worker_device_cpu_seconds_total", "instance, worker"), "device {{worker}}"),
                Query(_rate("process_cpu_seconds_total", "instance"), "all of {{instance}}"),
            ),
        ),
    ),
    "Is it full?": (
        Panel(
            "Queue, of its limit",
            "percentunit",
            (
                Query("samplerd_queue_rows{$s} / samplerd_queue_limit_rows{$s}", "rows {{instance}}"),
                Query("samplerd_queue_bytes{$s} / samplerd_queue_limit_bytes{$s}", "bytes {{instance}}"),
            ),
        ),
        Panel(
            "Calls and connections",
            "short",
            (
                Query("samplerd_transport_waiting_calls{$s}", "waiting in the transport {{instance}}"),
                Query("samplerd_in_flight_requests{$s}", "queued or computed {{instance}}"),
                Query("samplerd_worker_connections{$s}", "connections {{instance}} {{worker}}"),
            ),
        ),
        Panel(
            "Memory",
            "bytes",
            (
                Query("process_resident_memory_bytes{$s}", "resident {{instance}}"),
                Query("samplerd_distribution_bytes{$s}", "distributions {{instance}}"),
                Query("samplerd_incoming_bytes{$s}", "arriving {{instance}}"),
            ),
        ),
    ),
    "Who is refused, and why?": (
        _by("Requests by code", "samplerd_requests_total", "code"),
        Panel(
            "Refused on arrival",
            "reqps",
            (
                Query(_rate("samplerd_shed_total", "reason"), "{{reason}}"),
                Query(_rate("samplerd_unread_calls_total", "stage"), "unread: {{stage}}"),
                Query(_rate("samplerd_expired_total"), "expired in the queue"),
            ),
        ),
        Panel(
            "Refused by identity",
            "reqps",
            (Query(_rate("samplerd_identity_refusals_total", "identity, code"), "{{identity}} {{code}}"),),
        ),
    ),
    "What is drawn?": (
        Panel(
            "Rows and samples",
            "short",
            (
                Query(_rate("samplerd_rows_total", "path"), "{{path}} rows"),
                Query(_rate("samplerd_samples_total"), "samples"),
                Query(_rate("samplerd_indexed_samples_total"), "samples by CDF index"),
            ),
        ),
        _by("Rows by source", "samplerd_source_rows_total", "source", "short"),
        _by("Rows by dtype", "samplerd_dtype_rows_total", "dtype", "short"),
        _by("Rows by size of vocabulary", "samplerd_vocabulary_rows_total", "up_to", "short"),
        _by("Rows by filter", "samplerd_filter_rows_total", "filter", "short"),
        _by("Rows that cannot be drawn from", "samplerd_row_errors_total", "reason", "short"),
    ),
    "What does the device do?": (
        Panel(
            "Busy",
            "percentunit",
            (Query(_rate("samplerd_compute_seconds_sum", "instance"), "{{instance}}"),),
        ),
        Panel(
            "Rows in a batch, of the most",
            "percentunit",
            (
                Query(
                    _rate("samplerd_batch_rows_sum", "instance")
                    + f" / {_rate('samplerd_batch_rows_count', 'instance')}"
                    + " / on (instance) samplerd_batch_limit_rows{$s}",
                    "{{instance}}",
                ),
            ),
        ),
        Panel(
            "Batches by why they were closed",
            "short",
            (
                Query(_rate("samplerd_batches_total", "reason"), "{{reason}}"),
                Query("samplerd_batch_age_seconds{$s}", "age of the running batch in seconds {{instance}}"),
            ),
        ),
    ),
}
"""Each question, and the panels that answer it."""


def page() -> str:
    """Give the dashboard as JSON."""
    panels: list[dict[str, Any]] = []
    top = 0
    for question, row in ROWS.items():
        panels.append(_row(question, len(panels) + 1, top))
        top += 1
        for place, panel in enumerate(row):
            line, column = divmod(place, _PANELS_IN_LINE)
            at = {"x": column * _WIDTH // _PANELS_IN_LINE, "y": top + line * _HEIGHT}
            panels.append(_panel(panel, len(panels) + 1, at))
        top += _HEIGHT * -(-len(row) // _PANELS_IN_LINE)
    board = {
        "title": "samplerd",
        "uid": "samplerd",
        "tags": ["samplerd"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_source(), _variable("job", "", "up"), _variable("instance", '{job=~"$job"}', "up")]},
        "panels": panels,
    }
    return json.dumps(board, indent=1) + "\n"


def _row(title: str, number: int, top: int) -> dict[str, Any]:
    place = {"x": 0, "y": top, "w": _WIDTH, "h": 1}
    return {"type": "row", "id": number, "title": title, "collapsed": False, "gridPos": place, "panels": []}


def _panel(panel: Panel, number: int, at: dict[str, int]) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + place), "expr": query.expression, "legendFormat": query.legend}
        for place, query in enumerate(panel.queries)
    ]
    return {
        "type": "timeseries",
        "id": number,
        "title": panel.title,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "gridPos": {**at, "w": _WIDTH // _PANELS_IN_LINE, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": targets,
    }


def _source() -> dict[str, Any]:
    return {"name": "datasource", "type": "datasource", "query": "prometheus"}


def _variable(name: str, chosen: str, metric: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": f"label_values({metric}{chosen}, {name})",
        "current": {"text": "samplerd", "value": "samplerd"} if name == "job" else {"text": "All", "value": "$__all"},
        "includeAll": True,
        "multi": True,
        "refresh": 2,
    }
