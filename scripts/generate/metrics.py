"""docs/metrics.md, from the table of metrics itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samplerd_server.metrics.definition import Merge, definitions_of
from samplerd_server.metrics.table import PROCESS, ServerTable, SupervisorTable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from samplerd_server.metrics.definition import Definition, Label

__all__ = ["page"]

_HEAD = """\
# Metrics

What `/metrics` (`--metrics-listen`) shows. Every series whose labels can be known exists from the start, at zero. With
`--workers` 2 or more, or with `--doors`, the supervisor shows one page for all processes; the column "workers" says how
it merges their values. Counters and histograms keep what a worker that has ended had counted, so none of them goes
backwards.

The column "set by" names the file below `server/samplerd_server/` that counts the metric, or that holds what a scrape
reads. A histogram is shown as three series, with `_bucket`, `_sum` and `_count` after its name.

This page is generated from `server/samplerd_server/metrics/table.py` by `make generate`. A new metric is a row of that
table and the line that counts it; for a gauge, that line is in `app/gauges.py`."""
_MERGES = {
    Merge.SUM: "sum",
    Merge.MAX: "largest",
    Merge.MIN: "smallest",
    Merge.FIRST: "first",
    Merge.PER_WORKER: "one series each",
}


def page() -> str:
    """Give the page as text."""
    server, supervisor = definitions_of(ServerTable), definitions_of(SupervisorTable)
    parts = [
        _HEAD,
        *_section("Of every server", server),
        *_section("Of the supervisor, with `--workers` 2 or more, or with `--doors`", supervisor),
        *_section("Of the process", PROCESS, "The supervisor's own process is included."),
        *_labels([*server, *supervisor]),
        *_buckets([*server, *supervisor]),
        *_deprecated([*server, *supervisor]),
    ]
    return "\n".join(parts) + "\n"


def _section(title: str, rows: Sequence[Definition], note: str = "") -> Iterator[str]:
    yield f"\n## {title}\n"
    if note:
        yield f"{note}\n"
    yield "| name | type | unit | help | set by | workers |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        labels = ", ".join(label.name for label in row.labels)
        name = f"`{row.exported_name}{{{labels}}}`" if labels else f"`{row.exported_name}`"
        yield f"| {name} | {row.type} | {row.unit or '-'} | {row.help} | `{row.set_by}` | {_MERGES[row.merge]} |"


def _labels(rows: Sequence[Definition]) -> Iterator[str]:
    yield "\n## Labels\n"
    yield "| label | of | values |"
    yield "|---|---|---|"
    shown: list[Label] = []
    for label in (label for row in rows for label in row.labels):
        if label not in shown:
            shown.append(label)
            names = ", ".join(f"`{row.exported_name}`" for row in rows if label in row.labels)
            yield f"| `{label.name}` | {names} | {_values(label)} |"


def _values(label: Label) -> str:
    if label.of_rpc:
        return _OF_RPC[label.of_rpc]
    values = [f"`{value}` ({meaning})" if meaning else f"`{value}`" for value, meaning in label.values.items()]
    return "; ".join([*values, *filter(None, [label.others])])


_OF_RPC = {
    "timed_as": "name of an RPC that draws, verifies or uploads, as `Sample`; `other` is all others together",
    "codes": "status code, as `INVALID_ARGUMENT`; the usual ones from the start, any other once it occurs",
    "grpc_codes": "status code, as `InvalidArgument`; otherwise as `code`",
    "method": "name of the RPC, as `Sample`; all that are served",
    "service": "full name of the service: `samplerd.v1.SamplerService` or `inference.GRPCInferenceService`",
    "grpc_type": "`unary`, `server_stream` or `bidi_stream`",
}


def _buckets(rows: Sequence[Definition]) -> Iterator[str]:
    yield "\n## Buckets\n"
    yield "| metrics | upper bounds | why |"
    yield "|---|---|---|"
    for buckets in dict.fromkeys(row.buckets for row in rows if row.buckets is not None):
        names = ", ".join(f"`{row.exported_name}`" for row in rows if row.buckets == buckets)
        bounds = ", ".join(f"{bound:g}" for bound in buckets.bounds)
        yield f"| {names} | {bounds} | {buckets.reason} |"


def _deprecated(rows: Sequence[Definition]) -> Iterator[str]:
    yield "\n## Deprecated names\n"
    yield "Still exported, with the same value, until the next release."
    yield "\n| old | new |"
    yield "|---|---|"
    for row in rows:
        for old in row.formerly:
            labels = ",".join(f'{name}="{value}"' for name, value in old.labels.items())
            series = f"{old.name}{row.suffix}" + (f"{{{labels}}}" if labels else "")
            yield f"| `{series}` | `{row.exported_name}` |"
