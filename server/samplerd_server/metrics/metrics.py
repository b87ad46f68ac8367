"""The metric table and its exporter.

What happens is counted in plain integers by the event loop, one addition each, and turned into Prometheus' text only
when somebody scrapes (the exporter's thread reads; it never writes). That keeps all of it far under one per cent of a
request: prometheus_client's own counters take a lock for every addition.

Rule 1: labels are bounded: RPCs, codes, reasons; never a client's own words. Rule 2: every series exists from the
start, at zero. Rule 3: base units, `_total` for counters.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from samplerd_server.core.enums import RowErrorReason
from samplerd_server.core.errors import Code
from samplerd_server.metrics.counters import Counter, Histogram

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from threading import Thread
    from wsgiref.simple_server import WSGIServer

    from prometheus_client.metrics_core import Metric

__all__ = ["Exporter", "Metrics", "Process", "RpcLabels"]

_SECONDS = (
    *(1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),
)
"""1-2-5 from 10 us (a small batch on a CPU) to 10 s (a queue about to be shed)."""
_ROWS = tuple(float(1 << power) for power in range(13))
"""Powers of two from 1 to 4,096, past any sensible max_batch_rows."""

BATCH_REASONS = ("full", "idle", "delay", "deadline")
SHED_REASONS = ("queue_rows", "queue_bytes", "deadline", "draining")
CANCELLED_STAGES = ("queued", "computed", "expired")
PATHS = ("greedy", "random")
DISTRIBUTION_EVENTS = ("created", "used", "deleted", "expired")
SHARED_MEMORY_CODES = ("invalid_argument", "not_found", "permission_denied", "unavailable")


class RpcLabels(NamedTuple):
    """One RPC, as grpc-ecosystem dashboards tell it from others."""

    service: str
    """The full name of its service: ``samplerd.v1.SamplerService``."""
    method: str
    grpc_type: str
    """``unary`` or ``bidi_stream``."""


class _Rpc:
    """The series of one RPC: looked up once."""

    __slots__ = ("grpc_handling", "grpc_labels", "grpc_ok", "grpc_started", "request_ok", "request_time", "unary")

    def __init__(self, metrics: Metrics, rpc: RpcLabels) -> None:
        self.grpc_labels = (rpc.grpc_type, rpc.service, rpc.method)
        self.unary = rpc.grpc_type == "unary"
        self.grpc_started = metrics.grpc_started.cell(*self.grpc_labels)
        self.grpc_ok = metrics.grpc_handled.cell(*self.grpc_labels, "OK")
        self.grpc_handling = metrics.grpc_handling.series(*self.grpc_labels)
        self.request_ok = metrics.requests.cell(rpc.method, Code.OK.name)
        self.request_time = metrics.request_time.series(rpc.method)


class Metrics(Collector):
    """Everything that is counted. The event loop adds; a scrape reads."""

    def __init__(self, rpcs: Iterable[RpcLabels] = ()) -> None:
        """Make every series, at zero; `rpcs` are all that are served, and only these can be counted.

        Raises:
            ValueError: two RPCs have one name: `samplerd_requests_total` tells them by it.

        """
        served = tuple(rpcs)
        methods = [rpc.method for rpc in served]
        if len(set(methods)) != len(methods):
            raise ValueError(f"two RPCs have one name: {sorted(methods)}")
        series = [(rpc.grpc_type, rpc.service, rpc.method) for rpc in served]
        grpc = ("grpc_type", "grpc_service", "grpc_method")
        self.requests = Counter(
            "samplerd_requests",
            "Requests answered, by RPC and code; a stream counts each of its requests.",
            ("rpc", "code"),
            [(method, Code.OK.name) for method in methods],
        )
        self.rows = Counter("samplerd_rows", "Rows drawn from, by path.", ("path",), [(path,) for path in PATHS])
        self.samples = Counter("samplerd_samples", "Samples drawn.")
        self.input_bytes = Counter("samplerd_input_bytes", "Bytes of rows computed on.")
        self.batches = Counter(
            "samplerd_batches",
            "Batches, by why they were closed: full, the device was idle, max_queue_delay, or a deadline was near.",
            ("reason",),
            [(reason,) for reason in BATCH_REASONS],
        )
        self.row_errors = Counter(
            "samplerd_row_errors",
            "Rows that failed alone, by reason.",
            ("reason",),
            [(reason.name.lower(),) for reason in RowErrorReason if reason],
        )
        self.shed = Counter(
            "samplerd_shed",
            "Requests refused at the door, by reason.",
            ("reason",),
            [(reason,) for reason in SHED_REASONS],
        )
        self.cancelled = Counter(
            "samplerd_cancelled",
            "Requests whose caller had gone: while queued (never computed), once computed, or expired while queued.",
            ("stage",),
            [(stage,) for stage in CANCELLED_STAGES],
        )
        self.shared_memory_bytes = Counter("samplerd_shared_memory_bytes", "Bytes of rows copied out of shared memory.")
        self.shared_memory_errors = Counter(
            "samplerd_shared_memory_errors",
            "Regions of shared memory that could not be read, by code.",
            ("code",),
            [(code,) for code in SHARED_MEMORY_CODES],
        )
        self.distributions = Counter(
            "samplerd_distribution_events",
            "Uploaded distributions: created, used by a request, deleted, expired.",
            ("event",),
            [(event,) for event in DISTRIBUTION_EVENTS],
        )
        self.table_samples = Counter("samplerd_table_samples", "Samples drawn from tables of uploaded distributions.")
        self.batch_rows = Histogram("samplerd_batch_rows", "Rows in a batch.", _ROWS)
        self.queue_wait = Histogram("samplerd_queue_wait_seconds", "From arrival until the batch was formed.", _SECONDS)
        self.shared_memory_read = Histogram(
            "samplerd_shared_memory_read_seconds",
            "To open a shared region and copy rows out of it.",
            _SECONDS,
        )
        self.compute = Histogram("samplerd_compute_seconds", "Of a batch on the device.", _SECONDS)
        self.request_time = Histogram(
            "samplerd_request_seconds",
            "From arrival until the reply was encoded.",
            _SECONDS,
            ("rpc",),
            [(method,) for method in methods],
        )
        self.grpc_started = Counter("grpc_server_started", "RPCs started.", grpc, series)
        self.grpc_handled = Counter(
            "grpc_server_handled", "RPCs completed.", (*grpc, "grpc_code"), [(*rpc, "OK") for rpc in series]
        )
        self.grpc_handling = Histogram("grpc_server_handling_seconds", "Time that RPCs took.", _SECONDS, grpc, series)
        self._rpcs = {rpc.method: _Rpc(self, rpc) for rpc in served}
        self._gauges: list[tuple[str, str, Callable[[], float]]] = []
        self._build: dict[str, str] = {}

    def describe_build(self, **labels: str) -> None:
        """Say what samplerd_build_info shows."""
        self._build = labels

    def watch(self, name: str, help: str, read: Callable[[], float]) -> None:  # noqa: A002  # Prometheus' own word
        """Export a gauge that is read when somebody scrapes; `read` runs on the exporter's thread."""
        self._gauges.append((name, help, read))

    def rpc_started(self, rpc: str) -> None:
        """Count an RPC that begins."""
        self._rpcs[rpc].grpc_started.value += 1

    def rpc_handled(self, rpc: str, code: Code, seconds: float) -> None:
        """Count an RPC that ended, with the time it took; a unary one is also a request."""
        own = self._rpcs[rpc]
        # Both histograms have the same bounds, so the bucket is looked for once.
        bucket = bisect_left(_SECONDS, seconds)
        own.grpc_handling[bucket] += 1
        own.grpc_handling[-1] += seconds
        if own.unary:
            own.request_time[bucket] += 1
            own.request_time[-1] += seconds
        if code is Code.OK:
            own.grpc_ok.value += 1
            if own.unary:
                own.request_ok.value += 1
        else:
            self.grpc_handled.add(1, *own.grpc_labels, _GRPC_CODES[code])
            if own.unary:
                self.requests.add(1, rpc, code.name)

    def request_answered(self, rpc: str, code: Code, seconds: float) -> None:
        """Count a request that was answered; a stream counts each of its own."""
        self.requests.add(1, rpc, code.name)
        self.request_time.observe(seconds, rpc)

    def collect(self) -> Iterator[Metric]:
        """Give every metric to prometheus_client. On the exporter's thread."""
        for value in vars(self).values():
            if isinstance(value, (Counter, Histogram)):
                yield value.family()
        for name, text, read in self._gauges:
            yield GaugeMetricFamily(name, text, value=read())
        if self._build:
            yield InfoMetricFamily("samplerd_build", "What this server is.", value=self._build)


# The names that grpc-ecosystem dashboards expect: CamelCase.
_GRPC_CODES = {code: "OK" if code is Code.OK else code.name.title().replace("_", "") for code in Code}


class Process(ProcessCollector):
    """What the system knows of this process: memory, processor time, open files."""

    def __init__(self) -> None:
        super().__init__(registry=None)


class Exporter:
    """Serves /metrics on its own thread."""

    def __init__(self, listen: str, *collectors: Collector) -> None:
        self._listen = listen
        self._registry = CollectorRegistry()
        for collector in collectors:
            self._registry.register(collector)
        self._server: WSGIServer | None = None
        self._thread: Thread | None = None

    def start(self) -> int:
        """Begin to serve; returns the port, which the system chose if the configured one was 0.

        Raises:
            OSError: the address cannot be listened on.

        """
        host, _, port = self._listen.rpartition(":")
        self._server, self._thread = start_http_server(int(port), host.strip("[]"), self._registry)
        return int(self._server.server_port)

    def stop(self) -> None:
        """Stop serving and wait for the thread."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None
