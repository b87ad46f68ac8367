"""What is counted while a server runs: the rows of `table.py` as instruments, and what every RPC adds to them.

What happens is counted in plain integers by the event loop, one addition each, and turned into Prometheus' text only
when somebody scrapes (the exporter's thread reads; it never writes). That keeps all of it far under one per cent of a
request: prometheus_client's own counters take a lock for every addition.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from prometheus_client.registry import Collector

from samplerd_server.core.errors import OK, Code
from samplerd_server.metrics.definition import definitions_of
from samplerd_server.metrics.instruments import Counter
from samplerd_server.metrics.table import SECONDS, ServerTable, SupervisorTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.metrics_core import Metric

    from samplerd_server.metrics.definition import Instrument
    from samplerd_server.metrics.rpc_labels import RpcLabels

__all__ = ["Metrics", "SupervisorMetrics"]

_BOUNDS = SECONDS.bounds


class _Instruments(Collector):
    """The instruments of a table, each an attribute named as its row, and the old names under which they are shown."""

    def __init__(self, rpcs: Iterable[RpcLabels] = ()) -> None:
        served = tuple(rpcs)
        self._shown: dict[str, Instrument] = {}
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
        for instrument in self._shown.values():
            family = instrument.family()
            if family.samples:
                yield family


class _Rpc:
    """The series of one RPC: looked up once."""

    __slots__ = ("grpc_handling", "grpc_labels", "grpc_ok", "grpc_started", "request_ok", "request_seconds", "unary")

    def __init__(self, metrics: Metrics, rpc: RpcLabels) -> None:
        self.grpc_labels = (rpc.grpc_type, rpc.service, rpc.method)
        self.unary = rpc.grpc_type == "unary"
        self.grpc_started = metrics.grpc_server_started.cell(*self.grpc_labels)
        self.grpc_ok = metrics.grpc_server_handled.cell(*self.grpc_labels, "OK")
        self.grpc_handling = metrics.grpc_server_handling_seconds.series(*self.grpc_labels)
        self.request_ok = metrics.requests.cell(rpc.method, OK.name)
        self.request_seconds = metrics.request_seconds.series(rpc.method)


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
        self._rpcs = {rpc.method: _Rpc(self, rpc) for rpc in served}

    def rpc_started(self, rpc: str) -> None:
        """Count an RPC that begins."""
        self._rpcs[rpc].grpc_started.value += 1

    def rpc_handled(self, rpc: str, code: Code, seconds: float) -> None:
        """Count an RPC that ended, with the time it took; a unary one is also a request."""
        own = self._rpcs[rpc]
        # Both histograms have the same bounds, so the bucket is looked for once.
        bucket = bisect_left(_BOUNDS, seconds)
        own.grpc_handling[bucket] += 1
        own.grpc_handling[-1] += seconds
        if own.unary:
            own.request_seconds[bucket] += 1
            own.request_seconds[-1] += seconds
        if code is OK:
            own.grpc_ok.value += 1
            if own.unary:
                own.request_ok.value += 1
        else:
            self.grpc_server_handled.add(1, *own.grpc_labels, _GRPC_CODES[code])
            if own.unary:
                self.requests.add(1, rpc, code.name)

    def request_answered(self, rpc: str, code: Code, seconds: float) -> None:
        """Count a request that was answered; a stream counts each of its own."""
        self.requests.add(1, rpc, code.name)
        self.request_seconds.observe(seconds, rpc)


class SupervisorMetrics(SupervisorTable, _Instruments):
    """What the supervisor of workers counts itself. On its event loop."""

    def __init__(self, workers: int) -> None:
        _Instruments.__init__(self)
        for index in range(workers):
            self.worker_restarts.cell(str(index))


# The names that grpc-ecosystem dashboards expect: CamelCase.
_GRPC_CODES = {code: "OK" if code is OK else code.name.title().replace("_", "") for code in Code}
