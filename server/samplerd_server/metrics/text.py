"""Snapshots as Prometheus reads them: its text format, and OpenMetrics.

prometheus_client writes the same, character by character, which a test holds; it takes 5 ms for 700 series, and calls
wait for Python's lock meanwhile. Here what stands before each value is written once.
"""

from __future__ import annotations

from operator import add
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from prometheus_client.utils import floatToGoString

from samplerd_server.metrics.pieces import pieces, rested

if TYPE_CHECKING:
    from collections.abc import Callable

    from samplerd_server.metrics.series import Family, Key, Layout, Snapshot

__all__ = ["write"]

_go: Callable[[float], str] = floatToGoString
_SUFFIXES = {"counter": "_total", "info": "_info"}
"""What the text format, unlike OpenMetrics, has in the name of a metric."""


def write(snapshot: Snapshot, *, is_open_metrics: bool) -> str:
    """Write a page."""
    known = _PREFIXES[is_open_metrics]
    prefixes = known.get(snapshot.layout)
    if prefixes is None:
        prefixes = known[snapshot.layout] = _prefixes(snapshot.layout, is_open_metrics=is_open_metrics)
    lines: list[str] = []
    for piece in pieces(len(prefixes)):
        lines += map(add, prefixes[piece], map(_number, snapshot.values[piece]))
    end = "# EOF\n" if is_open_metrics else ""
    return "\n".join([*lines, end]) if lines else end


_PREFIXES: tuple[WeakKeyDictionary[Layout, list[str]], ...] = (WeakKeyDictionary(), WeakKeyDictionary())
"""What stands before each value, by layout: in the text format, and in OpenMetrics."""


def _number(value: float) -> str:
    return _go(value) if value else "0.0"


def _prefixes(layout: Layout, *, is_open_metrics: bool) -> list[str]:
    prefixes = []
    for family in rested(layout.families, [len(family.keys) for family in layout.families]):
        head = _head(family, is_open_metrics=is_open_metrics)
        for key in family.keys:
            prefixes.append(f"{head}{_series(key)} ")
            head = ""
    return prefixes


def _head(family: Family, *, is_open_metrics: bool) -> str:
    name, kind, text = family.name, family.type, family.help.replace("\\", r"\\").replace("\n", r"\n")
    if is_open_metrics:
        text = text.replace('"', r"\"")
    else:
        name, kind = name + _SUFFIXES.get(kind, ""), kind.replace("info", "gauge")
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"


def _series(key: Key) -> str:
    name, labels = key
    if not labels:
        return name
    return f"{name}{{{','.join(f'{label}={_quoted(value)}' for label, value in sorted(labels))}}}"


def _quoted(value: str) -> str:
    escaped = value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return f'"{escaped}"'
