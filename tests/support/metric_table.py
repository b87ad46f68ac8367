"""What the table of metrics says a scrape shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samplerd_server.metrics.card_table import CardTable
from samplerd_server.metrics.definition import definitions_of
from samplerd_server.metrics.series import Family, Layout, Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.metrics_core import Metric

    from samplerd_server.metrics.definition import Definition, Instrument

OF_TLS = {"certificate_expiry_timestamp_seconds"}
"""Metrics that only a server with TLS has."""
OF_A_CARD = {own.attribute for own in definitions_of(CardTable)}
"""Metrics that only a server with a GPU has."""
_OTHERS = OF_TLS | OF_A_CARD


def types_of(*tables: Iterable[Definition]) -> dict[str, str]:
    """Type of every metric of a server without TLS and GPU, old names included, by its name as Prometheus stores it."""
    rows = [
        own for table in tables for row in table if row.attribute not in _OTHERS for own in (row, *row.deprecated())
    ]
    # Prometheus' text has no word for information: it is shown as a gauge.
    return {row.exported_name: row.type.replace("info", "gauge") for row in rows}


def family_of(instrument: Instrument) -> Metric:
    """What an instrument shows, as prometheus_client has it."""
    keys, values = instrument.read()
    layout = Layout([Family(instrument.name, instrument.help, instrument.type, keys)])
    return next(Snapshot(layout, values).metrics())
