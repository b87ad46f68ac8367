"""What is known of one metric: a row of the table in `table.py`.

A row is the field of a dataclass, as a setting is in `config/`: its type is the instrument that counts, and its
metadata is the `Definition`. The field's name is the metric's: ``queue_rows`` is exported as ``samplerd_queue_rows``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass, replace
from enum import Enum
from itertools import product
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from samplerd_server.metrics.instruments import Counter, Gauge, Histogram, Info

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from samplerd_server.metrics.rpc_labels import RpcLabels

__all__ = [
    "Buckets",
    "Definition",
    "Instrument",
    "Label",
    "Merge",
    "OldName",
    "definitions_of",
    "metric",
]

Instrument: TypeAlias = Counter | Gauge | Histogram | Info
_I = TypeVar("_I", Counter, Gauge, Histogram, Info)
_FOREIGN = ("grpc_server_", "process_")
"""Names that dashboards expect as they are; all others begin with ``samplerd_``."""
_BASE_UNITS = ("seconds", "bytes")
_SUFFIXES = {Counter: "_total", Info: "_info"}


class Merge(Enum):
    """How the supervisor makes one series from those of its workers."""

    SUM = "sum of all workers"
    MAX = "largest of all workers"
    MIN = "smallest of all processes"
    FIRST = "that of the first worker"
    PER_WORKER = "one series for each worker"


@dataclass(frozen=True, slots=True)
class Label:
    """One label of a metric."""

    name: str
    values: Mapping[str, str] = field(default_factory=dict)
    """Values whose series exist from the start, each with its meaning."""
    others: str = ""
    """What further values there may be, and from when."""
    of_rpc: str = ""
    """Instead of `values`: the attribute of `RpcLabels` that it shows. Every RPC has a series from the start, or
    several if the attribute is a tuple."""


@dataclass(frozen=True, slots=True)
class Buckets:
    """Upper bounds of a histogram's buckets."""

    bounds: tuple[float, ...]
    reason: str
    """Why these."""


@dataclass(frozen=True, slots=True)
class OldName:
    """A name under which a metric is still exported, for one release."""

    name: str
    """Without the suffix of its kind."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Not empty: the old series was that of these label values, in a metric that stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What is known of a metric beside its name."""

    kind: type[Instrument]
    help: str
    """What the number says, in whole words."""
    set_by: str
    """The file that counts it or that a scrape reads it from, within ``server/samplerd_server``."""
    unit: str = ""
    """What is counted; of seconds and bytes, which stand at the end of the name, it is filled in."""
    labels: tuple[Label, ...] = ()
    buckets: Buckets | None = None
    merge: Merge = Merge.SUM
    formerly: tuple[OldName, ...] = ()
    attribute: str = ""
    """The name of its field in the table."""
    replaced_by: str = ""
    """The exported name to use instead of this one, which is deprecated."""

    def __post_init__(self) -> None:
        if not self.unit and self.attribute.endswith(_BASE_UNITS):
            object.__setattr__(self, "unit", self.attribute.rpartition("_")[2])

    @property
    def name(self) -> str:
        """Name of the metric, without the suffix of its kind."""
        return self.attribute if self.attribute.startswith(_FOREIGN) else f"samplerd_{self.attribute}"

    @property
    def exported_name(self) -> str:
        """Name of the metric as Prometheus stores it; a histogram's three series have further suffixes."""
        return self.name + self.suffix

    @property
    def suffix(self) -> str:
        """What the kind adds to the name."""
        return _SUFFIXES.get(self.kind, "")

    @property
    def type(self) -> str:
        """Prometheus' word for the kind: ``counter``, ``gauge``, ``histogram`` or ``info``."""
        return self.kind.__name__.lower()

    @property
    def stays(self) -> bool:
        """Whether what a process that has ended counted stays in the sum, so that it never goes backwards."""
        return self.kind in {Counter, Histogram}

    def deprecated(self) -> Iterator[Definition]:
        """Give the metrics that are this one under an old name."""
        for old in self.formerly:
            if not old.labels:
                yield replace(
                    self,
                    attribute=old.name.removeprefix("samplerd_"),
                    help=f"Deprecated, use {self.exported_name}. {self.help}",
                    formerly=(),
                    replaced_by=self.exported_name,
                )

    def make(self, rpcs: Iterable[RpcLabels] = ()) -> Instrument:
        """Make what counts this metric, with every known series at zero."""
        labels = tuple(label.name for label in self.labels)
        if self.kind is Counter:
            return Counter(self.name, self.help, labels, self._known(rpcs))
        if self.kind is Histogram:
            assert self.buckets is not None, f"{self.name} has no buckets. This is a bug."
            return Histogram(self.name, self.help, self.buckets.bounds, labels, self._known(rpcs))
        return Gauge(self.name, self.help, labels) if self.kind is Gauge else Info(self.name, self.help, labels)

    def _known(self, rpcs: Iterable[RpcLabels]) -> Iterator[tuple[str, ...]]:
        """Give the label values whose series exist from the start."""
        for rpc in rpcs if any(label.of_rpc for label in self.labels) else (None,):
            yield from product(*(_values(label, rpc) for label in self.labels))


def _values(label: Label, rpc: RpcLabels | None) -> tuple[str, ...]:
    """Give the values of a label that are known from the start, those of an RPC if it depends on it."""
    if not label.of_rpc:
        return tuple(label.values)
    values: str | tuple[str, ...] = getattr(rpc, label.of_rpc)
    return (values,) if isinstance(values, str) else values


def definitions_of(table: type) -> tuple[Definition, ...]:
    """Give the rows of a table, in its order; those of a table that it extends come last."""
    extended = {row.name for base in table.__bases__ if is_dataclass(base) for row in fields(base)}
    rows = sorted(fields(table), key=lambda row: row.name in extended)
    return tuple(replace(row.metadata["definition"], attribute=row.name) for row in rows)


def metric(
    kind: type[_I],
    help: str,  # noqa: A002  # Prometheus' own word
    *,
    set_by: str,
    unit: str = "",
    labels: tuple[Label, ...] = (),
    buckets: Buckets | None = None,
    merge: Merge = Merge.SUM,
    formerly: tuple[OldName, ...] = (),
) -> _I:
    """Make a row of the table: the arguments are the fields of `Definition`."""
    definition = Definition(
        kind=kind,
        help=help,
        set_by=set_by,
        unit=unit,
        labels=labels,
        buckets=buckets,
        merge=merge,
        formerly=formerly,
    )
    row: _I = field(metadata={"definition": definition})
    return row
