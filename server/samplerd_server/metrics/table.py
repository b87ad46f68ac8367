"""The table of all metrics: what a server counts, what a supervisor of workers adds, what is known of any process.

Everything else is derived from it: the attributes of `Metrics`, what a scrape shows, how workers are merged, and
docs/metrics.md. A new metric is a row here and the line that counts it; for a gauge, that line is in `app/gauges.py`.

Rule 1: labels are bounded: RPCs, codes, reasons; never a client's own words. Rule 2: every series that can be known
exists from the start, at zero. Rule 3: base units, spelt out at the end of the name. Rule 4: a name that is replaced
stays for a release, as an `OldName`.
"""

from __future__ import annotations

from dataclasses import dataclass

from samplerd_server.metrics import labels
from samplerd_server.metrics.definition import Label, Merge, OldName, definitions_of, metric
from samplerd_server.metrics.instruments import Counter, Gauge, Histogram, Info
from samplerd_server.metrics.process_table import PROCESS
from samplerd_server.metrics.shared_memory_table import SharedMemoryTable
from samplerd_server.metrics.supervisor_table import SupervisorTable
from samplerd_server.metrics.worker_metric import worker_metric

__all__ = ["BY_NAME", "PROCESS", "ServerTable", "SupervisorTable"]

_GAUGES = "app/gauges.py"
_BATCHER, _OBSERVER, _STORE = "batching/batcher.py", "transport/rpc/observer.py", "distributions/store.py"
_SUBMITTER, _WORKLOAD = "transport/rpc/queue_entry.py", "transport/rpc/workload.py"


@dataclass(init=False, eq=False, repr=False, slots=True)
class ServerTable(SharedMemoryTable):
    """What every server counts, a worker too."""

    requests: Counter = metric(
        Counter,
        "Requests answered, by RPC and status code. Every request of a stream counts.",
        unit="requests",
        labels=(labels.RPC, labels.CODE),
        set_by=_OBSERVER,
    )
    rows: Counter = metric(
        Counter,
        "Rows computed, by whether the choice was greedy or random.",
        unit="rows",
        labels=(labels.PATH,),
        set_by=_BATCHER,
    )
    samples: Counter = metric(Counter, "Samples drawn.", unit="samples", set_by=_BATCHER)
    input_bytes: Counter = metric(Counter, "Bytes of the rows computed.", set_by=_BATCHER)
    batches: Counter = metric(
        Counter, "Batches formed, by why they were closed.", unit="batches", labels=(labels.CLOSED,), set_by=_BATCHER
    )
    row_errors: Counter = metric(
        Counter,
        "Rows that could not be drawn from, by reason. The other rows of their batch are not affected.",
        unit="rows",
        labels=(labels.ROW_ERROR,),
        set_by=_BATCHER,
    )
    shed: Counter = metric(
        Counter,
        "Requests refused on arrival, before they entered the queue, by reason; `reply_bytes`: when they were drawn.",
        unit="requests",
        labels=(labels.SHED,),
        set_by=_SUBMITTER,
    )
    identity_rows: Counter = metric(
        Counter,
        "Rows admitted, by who called: the name of the token, or the common name of the certificate.",
        unit="rows",
        labels=(labels.IDENTITY,),
        set_by=_SUBMITTER,
    )
    identity_refusals: Counter = metric(
        Counter,
        "Calls refused for who called, and requests refused on arrival, by identity and status code.",
        unit="calls",
        labels=(labels.IDENTITY, labels.REFUSAL),
        set_by="transport/rpc/access.py",
    )
    cancelled: Counter = metric(
        Counter,
        "Requests cancelled by their caller before they were answered, by how far they had come.",
        unit="requests",
        labels=(labels.STAGE,),
        set_by=_BATCHER,
    )
    expired: Counter = metric(
        Counter,
        "Requests whose deadline passed in the queue or between two slices. They were not computed on.",
        unit="requests",
        set_by=_BATCHER,
        formerly=(OldName("samplerd_cancelled", {"stage": "expired"}),),
    )
    distribution_events: Counter = metric(
        Counter, "What happened to uploaded distributions.", unit="events", labels=(labels.EVENT,), set_by=_STORE
    )
    indexed_samples: Counter = metric(
        Counter,
        "Samples drawn with the CDF index of an uploaded distribution.",
        unit="samples",
        set_by=_BATCHER,
        formerly=(OldName("samplerd_table_samples"),),
    )
    source_rows: Counter = metric(
        Counter,
        "Rows admitted, by where their numbers come from.",
        unit="rows",
        labels=(labels.SOURCE,),
        set_by=_WORKLOAD,
    )
    dtype_rows: Counter = metric(
        Counter,
        "Rows admitted, by how their numbers are stored.",
        unit="rows",
        labels=(labels.DTYPE,),
        set_by=_WORKLOAD,
    )
    vocabulary_rows: Counter = metric(
        Counter,
        "Rows admitted, by the size of their vocabulary.",
        unit="rows",
        labels=(labels.VOCABULARY,),
        set_by=_WORKLOAD,
    )
    filter_rows: Counter = metric(
        Counter,
        "Rows admitted, by the filters and penalties that are set for them. A row counts under each of its own.",
        unit="rows",
        labels=(labels.FILTER,),
        set_by=_WORKLOAD,
    )
    batch_rows: Histogram = metric(Histogram, "Rows in a batch.", unit="rows", buckets=labels.ROWS, set_by=_BATCHER)
    queue_wait_seconds: Histogram = metric(
        Histogram,
        "Seconds a request waits in the queue, from its arrival until its batch is formed.",
        buckets=labels.SECONDS,
        set_by=_BATCHER,
    )
    compute_seconds: Histogram = metric(
        Histogram, "Seconds a batch spends in the sampler.", buckets=labels.SECONDS, set_by=_BATCHER
    )
    request_seconds: Histogram = metric(
        Histogram,
        "Seconds from the moment that the transport has a request until its reply is encoded, with its wait for the "
        "handler. Every request of a stream counts, from the moment that it is read.",
        labels=(labels.TIMED,),
        buckets=labels.SECONDS,
        set_by=_OBSERVER,
    )
    transport_wait_seconds: Histogram = metric(
        Histogram,
        "Seconds from the moment that the transport has a call until its handler begins.",
        buckets=labels.SECONDS,
        set_by=_OBSERVER,
    )
    grpc_server_started: Counter = metric(
        Counter, "RPCs started on the server.", unit="RPCs", labels=labels.GRPC, set_by=_OBSERVER
    )
    grpc_server_handled: Counter = metric(
        Counter,
        "RPCs completed on the server, with success or failure.",
        unit="RPCs",
        labels=(*labels.GRPC, labels.GRPC_CODE),
        set_by=_OBSERVER,
    )
    other_calls: Counter = metric(
        Counter,
        "Calls of none of the RPCs that are counted by name, by what they are of.",
        unit="calls",
        labels=(labels.OTHER_CALL,),
        set_by="transport/rpc/handlers.py",
    )
    unread_calls: Counter = metric(
        Counter,
        "Calls that ended before their message had come whole, by how far they had come: cancelled by their callers, "
        "past their deadlines, or too large for grpcio.",
        unit="calls",
        labels=(labels.UNREAD,),
        set_by="transport/rpc/observer.py",
    )
    transport_waiting_calls: Gauge = metric(
        Gauge,
        "Calls that the transport has and whose handlers have not begun; with grpcio as of some milliseconds ago, or a "
        "second where there were none.",
        unit="calls",
        set_by=_GAUGES,
    )
    queue_rows: Gauge = metric(Gauge, "Rows in the queue.", unit="rows", set_by="batching/queue.py")
    queue_bytes: Gauge = metric(
        Gauge,
        "Bytes that the requests in the queue hold: rows, the messages around them, lists of ids.",
        set_by="batching/queue.py",
    )
    incoming_bytes: Gauge = metric(
        Gauge, "Bytes of messages that have come in part; 0 with grpcio.", set_by="transport/envoy/intake.py"
    )
    reply_bytes: Gauge = metric(
        Gauge,
        "Bytes that replies hold while they are sent; less than 64 KiB of a call is not counted.",
        set_by="transport/rpc/reply_bytes.py",
    )
    queue_limit_rows: Gauge = metric(Gauge, "Most rows in the queue: `--queue-rows`.", unit="rows", set_by=_GAUGES)
    queue_limit_bytes: Gauge = metric(Gauge, "Most bytes in the queue: `--queue-bytes`.", set_by=_GAUGES)
    batch_age_seconds: Gauge = metric(
        Gauge,
        "How long the running batch has run, 0 if none does: grows without end while the device hangs.",
        merge=Merge.MAX,
        set_by="engine/device_thread.py",
    )
    batch_limit_rows: Gauge = metric(
        Gauge, "Most rows in a batch: `--max-batch-rows`.", unit="rows", merge=Merge.MAX, set_by=_GAUGES
    )
    distribution_limit: Gauge = metric(
        Gauge, "Most uploaded distributions.", unit="distributions", merge=Merge.MAX, set_by=_GAUGES
    )
    distribution_limit_bytes: Gauge = metric(
        Gauge, "Most bytes that uploaded distributions hold.", merge=Merge.MAX, set_by=_GAUGES
    )
    in_flight_requests: Gauge = metric(
        Gauge, "Requests that are queued or being computed.", unit="requests", set_by=_BATCHER
    )
    distributions: Gauge = metric(
        Gauge,
        "Uploaded distributions that the server holds. Workers share them.",
        unit="distributions",
        merge=Merge.MAX,
        set_by=_STORE,
    )
    distribution_bytes: Gauge = metric(
        Gauge, "Bytes held by uploaded distributions. Workers share them.", merge=Merge.MAX, set_by=_STORE
    )
    certificate_expiry_timestamp_seconds: Gauge = metric(
        Gauge,
        "When the server's certificate expires, since unix epoch in seconds; no series without TLS.",
        merge=Merge.MIN,
        set_by="config/certificate.py",
    )
    worker_connections: Gauge = worker_metric(Gauge, "Connections that the worker holds.", "connections")
    worker_tasks: Gauge = worker_metric(
        Gauge, "Tasks of the worker's event loop: some for each call and connection, and some of its own.", "tasks"
    )
    worker_calls: Counter = worker_metric(Counter, "Calls that have begun in the worker.", "calls")
    worker_event_loop_cpu_seconds: Counter = worker_metric(
        Counter, "Processor time of the worker's event loop, which also draws small batches."
    )
    worker_device_cpu_seconds: Counter = worker_metric(
        Counter, "Processor time of the worker's device thread, without the threads that help it."
    )
    build: Info = metric(
        Info,
        "Version, device, sampler and noise generator of the server. The value is always 1.",
        labels=(
            Label("version", others="of samplerd"),
            Label("device", others="`cpu` or `cuda:N`"),
            Label("kernel", others="`numba`, `torch` or `cuda + numba`"),
            Label("rng", others="the generator of the noise"),
        ),
        merge=Merge.FIRST,
        set_by="app/gauges.py",
    )
    dropped_log_lines: Counter = metric(
        Counter,
        "Lines of the log that were left out: standard error was not read fast enough, or its disk was full.",
        unit="lines",
        set_by=_GAUGES,
    )


BY_NAME = {
    definition.name: definition
    for row in (*definitions_of(ServerTable), *definitions_of(SupervisorTable), *PROCESS)
    for definition in (row, *row.deprecated())
}
"""Every metric that is exported, old names included, by its name without the suffix of its kind."""
