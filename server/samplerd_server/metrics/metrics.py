"""What is counted while a server runs: the rows of `table.py` as instruments, and what every RPC adds to them.

What happens is counted in plain integers by the event loop, one addition each, and turned into Prometheus' text only
when somebody scrapes (the exporter's thread reads; it never writes). That keeps all of it far under one per cent of a
request: prometheus_client's own counters take a lock for every addition.
"""

from __future__ import annotations

from bisect import bisect_left
from operator import is_
from typing import TYPE_CHECKING, Any

from prometheus_client.registry import Collector

from samplerd_server.core.drawn import Drawn
from samplerd_server.core.errors import OK, Code
from samplerd_server.metrics.definition import definitions_of
from samplerd_server.metrics.instruments import Counter, Gauge
from samplerd_server.metrics.labels import SECONDS
from samplerd_server.metrics.pieces import GAUGE, SERIES, rest
from samplerd_server.metrics.rpc_labels import camel_case
from samplerd_server.metrics.series import Family, Layout, Snapshot
from samplerd_server.metrics.table import ServerTable, SupervisorTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.metrics_core import Metric

    from samplerd_server.metrics.definition import Instrument
    from samplerd_server.metrics.rpc_labels import RpcLabels

__all__ = ["Metrics", "SupervisorMetrics"]

_BOUNDS = SECONDS.bounds
_MAX_IDENTITIES = 64


class _Instruments(Collector):
    """The instruments of a table, each an attribute named as its row, and the old names under which they are shown."""

    def __init__(self, rpcs: Iterable[RpcLabels] = ()) -> None:
        served = tuple(rpcs)
        self._shown: dict[str, Instrument] = {}
        self._last: tuple[list[Any], Layout] = [], Layout(())
        """What the instruments gave as their keys at the last scrape, and the layout made of it."""
        for definition in definitions_of(type(self)):
            instrument = definition.make(served)
            setattr(self, definition.attribute, instrument)
            self._shown[definition.name] = instrument
            for old in definition.formerly:
                if old.labels:
                    living = self._shown[old.name]
                    assert isinstance(living, Counter), f"{old.name} is no counter. This is a bug."
                    assert isinstance(instrument, Counter), f"{definition.name} is no counter. This is a bug."
                    living.show_also(instrument.cell(), *old.labels.values())
            for old_row in definition.deprecated():
                self._shown[old_row.name] = instrument.renamed(old_row.name, old_row.help)

    def collect(self) -> Iterator[Metric]:
        """Give every metric that has a series to prometheus_client. On the thread that scrapes."""
        return self.read().metrics()

    def read(self) -> Snapshot:
        """Read all series. On the thread that scrapes."""
        shape, values, done = [], list[float](), 0
        for instrument in self._shown.values():
            if done >= SERIES:
                rest()
                done = 0
            keys, own = instrument.read()
            shape.append(keys)
            values += own
            done += len(own) * (GAUGE if isinstance(instrument, Gauge) else 1)
        before, layout = self._last
        if not before or not all(map(is_, shape, before)):
            shown = zip(self._shown.values(), shape, strict=True)
            layout = Layout([Family(own.name, own.help, own.type, keys) for own, keys in shown if keys])
            self._last = shape, layout
        return Snapshot(layout, values)


class _Rpc:
    """The series of one RPC: looked up once."""

    __slots__ = (
        "grpc_labels",
        "grpc_ok",
        "grpc_started",
        "is_request",
        "path",
        "request_ok",
        "request_seconds",
    )

    def __init__(self, metrics: Metrics, rpc: RpcLabels) -> None:
        self.grpc_labels = (rpc.grpc_type, rpc.service, rpc.method)
        self.path = f"/{rpc.service}/{rpc.method}"
        self.is_request = rpc.grpc_type != "bidi_stream"
        self.grpc_started = metrics.grpc_server_started.cell(*self.grpc_labels)
        self.grpc_ok = metrics.grpc_server_handled.cell(*self.grpc_labels, "OK")
        self.request_ok = metrics.requests.cell(rpc.method, OK.name)
        self.request_seconds = metrics.request_seconds.series(rpc.timed_as)


class Metrics(ServerTable, _Instruments):
    """Everything that a server counts. The event loop adds; a scrape reads."""

    def __init__(self, rpcs: Iterable[RpcLabels] = ()) -> None:
        """Make every series, at zero; `rpcs` are all that are served, and only these can be counted.

        Raises:
            ValueError: two RPCs have one name: `samplerd_requests_total` tells them by it.

        """
        served = tuple(rpcs)
        methods = [rpc.method for rpc in served]
        if len(set(methods)) != len(methods):
            raise ValueError(f"two RPCs have one name: {sorted(methods)}")
        _Instruments.__init__(self, served)
        self._identities: set[str] = set()
        self._rpcs = {rpc.method: _Rpc(self, rpc) for rpc in served}
        self._paths = frozenset(f"/{rpc.service}/{rpc.method}" for rpc in served)

    def identity_label(self, name: str) -> str:
        """Give the label of a caller: its name, or `other` once there are 64 names."""
        if name in self._identities:
            return name
        if len(self._identities) >= _MAX_IDENTITIES:
            return "other"
        self._identities.add(name)
        return name

    def is_served(self, path: str) -> bool:
        """Whether a path, /SERVICE/METHOD, is that of an RPC that is counted by name."""
        return path in self._paths

    def path_of(self, rpc: str) -> str:
        """Give the path of an RPC: /SERVICE/METHOD."""
        return self._rpcs[rpc].path

    def rpc_started(self, rpc: str) -> None:
        """Count an RPC that begins."""
        self._rpcs[rpc].grpc_started.value += 1

    def rpc_handled(self, rpc: str, code: Code, seconds: float) -> None:
        """Count an RPC that ended, with the time it took; one that has one request is also a request."""
        own = self._rpcs[rpc]
        if own.is_request:
            own.request_seconds[bisect_left(_BOUNDS, seconds)] += 1
            own.request_seconds[-1] += seconds
        if code is OK:
            own.grpc_ok.value += 1
            if own.is_request:
                own.request_ok.value += 1
        else:
            self.grpc_server_handled.add(1, *own.grpc_labels, _GRPC_CODES[code])
            if own.is_request:
                self.requests.add(1, rpc, code.name)

    def drawn(self) -> Drawn:
        """Sum up what was drawn."""
        waits, wait_s = self.queue_wait_seconds.summary()
        return Drawn(
            rows=int(self.rows.total()),
            batches=int(self.batches.total()),
            waits=waits,
            wait_s=wait_s,
            compute_s=self.compute_seconds.summary()[1],
        )

    def requests_answered(self, rpc: str, code: Code, seconds: float, requests: int = 1) -> None:
        """Count requests that were answered at once, `seconds` after they came; a stream counts each of its own."""
        own = self._rpcs[rpc]
        own.request_seconds[bisect_left(_BOUNDS, seconds)] += requests
        own.request_seconds[-1] += requests * seconds
        if code is OK:
            own.request_ok.value += requests
        else:
            self.requests.add(requests, rpc, code.name)


class SupervisorMetrics(SupervisorTable, _Instruments):
    """What the supervisor of workers counts itself. On its event loop."""

    def __init__(self, workers: Iterable[str]) -> None:
        """Take the names of the workers."""
        _Instruments.__init__(self)
        for name in workers:
            self.worker_restarts.cell(name)


_GRPC_CODES = {code: camel_case(code.name) for code in Code}
