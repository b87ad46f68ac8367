"""What the table of metrics says a scrape shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from samplerd_server.metrics.definition import Definition


def types_of(*tables: Iterable[Definition]) -> dict[str, str]:
    """Type of every metric, old names included, by its name as Prometheus stores it."""
    rows = [own for table in tables for row in table for own in (row, *row.deprecated())]
    # Prometheus' text has no word for information: it is shown as a gauge.
    return {row.exported_name: row.type.replace("info", "gauge") for row in rows}
