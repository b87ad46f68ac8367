"""The table of all metrics: what a server counts, what a supervisor of workers adds, what is known of any process.

Everything else is derived from it: the attributes of `Metrics`, what a scrape shows, how workers are merged, and
docs/metrics.md. A new metric is a row here and the line that counts it; for a gauge, that line is in `app.py`.

Rule 1: labels are bounded: RPCs, codes, reasons; never a client's own words. Rule 2: every series that can be known
exists from the start, at zero. Rule 3: base units, spelt out at the end of the name. Rule 4: a name that is replaced
stays for a release, as an `OldName`.
"""

from __future__ import annotations

from dataclasses import dataclass

from samplerd_server.core.enums import RowErrorReason
from samplerd_server.metrics.definition import Buckets, Definition, Label, Merge, OldName, definitions_of, metric
from samplerd_server.metrics.instruments import Counter, Gauge, Histogram, Info

__all__ = ["BY_NAME", "PROCESS", "SECONDS", "ServerTable", "SupervisorTable"]

SECONDS = Buckets(
    (*(1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),),
    "1-2-5 from 10 us (a small batch on a CPU) to 10 s (a queue about to be shed)",
)
ROWS = Buckets(
    tuple(float(1 << power) for power in range(13)),
    "powers of two from 1 to 4,096, past any sensible `--max-batch-rows`",
)

_RPC = Label("rpc", of_rpc="method")
_CODE = Label("code", {"OK": "success"}, others="any other status code, as `INVALID_ARGUMENT`, once it occurs")
_GRPC = (
    Label("grpc_type", of_rpc="grpc_type"),
    Label("grpc_service", of_rpc="service"),
    Label("grpc_method", of_rpc="method"),
)
_GRPC_CODE = Label("grpc_code", {"OK": "success"}, others="any other code, as `InvalidArgument`, once it occurs")
_PATH = Label("path", {"greedy": "temperature 0: the likeliest id", "random": "any other temperature"})
_CLOSED = Label(
    "reason",
    {
        "full": "it reached `--max-batch-rows` or `--max-batch-bytes`",
        "idle": "the device was idle, or as many rows waited as the running batch has",
        "delay": "its oldest request had waited for `--max-queue-delay`",
        "deadline": "a request's deadline was near",
        "slice": "it is a slice of a request that would hold the device for longer than `--max-slice`",
    },
)
_ROW_ERROR = Label(
    "reason",
    {reason.name.lower(): "" for reason in RowErrorReason if reason},
    others="meanings in [the protocol](protocol.md), RowErrorReason",
)
_SHED = Label(
    "reason",
    {
        "queue_rows": "the queue held `--queue-rows` already",
        "queue_bytes": "the queue held `--queue-bytes` already",
        "deadline": "the queue would have taken longer than the request's deadline",
        "draining": "the server was shutting down",
    },
)
_STAGE = Label(
    "stage", {"queued": "in the queue: never computed", "computed": "in a batch: the result was thrown away"}
)
_READ_CODE = Label(
    "code",
    {
        "invalid_argument": "the bytes are not all within the region, or it is not an ordinary file",
        "not_found": "there is no region of this name",
        "permission_denied": "the server may not read the region",
        "unavailable": "the server has no file descriptor or memory left",
    },
)
_EVENT = Label(
    "event",
    {
        "created": "uploaded",
        "used": "named by a request",
        "deleted": "deleted by a request",
        "expired": "freed after its idle time without a use",
    },
)

_BATCHER, _OBSERVER, _STORE = "batching/batcher.py", "transport/rpc/observer.py", "distributions/store.py"
_READER, _AGGREGATOR = "transport/shared_memory/reader.py", "process/workers/aggregator.py"


@dataclass(init=False, eq=False, repr=False, slots=True)
class ServerTable:
    """What every server counts, a worker too."""

    requests: Counter = metric(
        Counter,
        "Requests answered, by RPC and status code. Every request of a stream counts.",
        unit="requests",
        labels=(_RPC, _CODE),
        set_by=_OBSERVER,
    )
    rows: Counter = metric(
        Counter,
        "Rows computed, by whether the choice was greedy or random.",
        unit="rows",
        labels=(_PATH,),
        set_by=_BATCHER,
    )
    samples: Counter = metric(Counter, "Samples drawn.", unit="samples", set_by=_BATCHER)
    input_bytes: Counter = metric(Counter, "Bytes of the rows computed.", set_by=_BATCHER)
    batches: Counter = metric(
        Counter, "Batches formed, by why they were closed.", unit="batches", labels=(_CLOSED,), set_by=_BATCHER
    )
    row_errors: Counter = metric(
        Counter,
        "Rows that could not be drawn from, by reason. The other rows of their batch are not affected.",
        unit="rows",
        labels=(_ROW_ERROR,),
        set_by=_BATCHER,
    )
    shed: Counter = metric(
        Counter,
        "Requests refused on arrival, before they entered the queue, by reason.",
        unit="requests",
        labels=(_SHED,),
        set_by="transport/rpc/submitter.py",
    )
    cancelled: Counter = metric(
        Counter,
        "Requests cancelled by their caller before they were answered, by how far they had come.",
        unit="requests",
        labels=(_STAGE,),
        set_by=_BATCHER,
    )
    expired: Counter = metric(
        Counter,
        "Requests whose deadline passed in the queue or between two slices. They were not computed on.",
        unit="requests",
        set_by=_BATCHER,
        formerly=(OldName("samplerd_cancelled", {"stage": "expired"}),),
    )
    shared_memory_bytes: Counter = metric(Counter, "Bytes of rows copied out of shared memory.", set_by=_READER)
    shared_memory_errors: Counter = metric(
        Counter, "Failed reads of shared memory, by status code.", unit="reads", labels=(_READ_CODE,), set_by=_READER
    )
    distribution_events: Counter = metric(
        Counter, "What happened to uploaded distributions.", unit="events", labels=(_EVENT,), set_by=_STORE
    )
    indexed_samples: Counter = metric(
        Counter,
        "Samples drawn with the CDF index of an uploaded distribution.",
        unit="samples",
        set_by=_BATCHER,
        formerly=(OldName("samplerd_table_samples"),),
    )
    batch_rows: Histogram = metric(Histogram, "Rows in a batch.", unit="rows", buckets=ROWS, set_by=_BATCHER)
    queue_wait_seconds: Histogram = metric(
        Histogram,
        "Seconds a request waits in the queue, from its arrival until its batch is formed.",
        buckets=SECONDS,
        set_by=_BATCHER,
    )
    shared_memory_read_seconds: Histogram = metric(
        Histogram,
        "Seconds taken to open a region of shared memory and to copy rows out of it.",
        buckets=SECONDS,
        set_by=_READER,
    )
    compute_seconds: Histogram = metric(
        Histogram, "Seconds a batch spends in the sampler.", buckets=SECONDS, set_by=_BATCHER
    )
    request_seconds: Histogram = metric(
        Histogram,
        "Seconds from the arrival of a request until its reply is encoded. Every request of a stream counts.",
        labels=(_RPC,),
        buckets=SECONDS,
        set_by=_OBSERVER,
    )
    grpc_server_started: Counter = metric(
        Counter, "RPCs started on the server.", unit="RPCs", labels=_GRPC, set_by=_OBSERVER
    )
    grpc_server_handled: Counter = metric(
        Counter,
        "RPCs completed on the server, with success or failure.",
        unit="RPCs",
        labels=(*_GRPC, _GRPC_CODE),
        set_by=_OBSERVER,
    )
    grpc_server_handling_seconds: Histogram = metric(
        Histogram,
        "Seconds from the start of an RPC until it is completed; for a stream, as long as it is open.",
        labels=_GRPC,
        buckets=SECONDS,
        set_by=_OBSERVER,
    )
    queue_rows: Gauge = metric(Gauge, "Rows in the queue.", unit="rows", set_by="batching/queue.py")
    queue_bytes: Gauge = metric(Gauge, "Bytes of the rows in the queue.", set_by="batching/queue.py")
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
    shared_memory_idle_bytes: Gauge = metric(
        Gauge, "Bytes of free buffers kept for the next rows from shared memory.", set_by=_READER
    )
    build: Info = metric(
        Info,
        "Version, device, sampler and noise generator of the server. The value is always 1.",
        labels=(
            Label("version", others="of samplerd"),
            Label("device", others="`cpu` or `cuda:N`"),
            Label("kernel", others="`numba` or `torch`"),
            Label("rng", others="the generator of the noise"),
        ),
        merge=Merge.FIRST,
        set_by="app.py",
    )


_WORKER = (Label("worker", others="the number of the worker, from 0"),)


@dataclass(init=False, eq=False, repr=False, slots=True)
class SupervisorTable:
    """What the supervisor adds with `--workers` 2 or more."""

    worker_up: Gauge = metric(
        Gauge,
        "1 if the worker answered this scrape within a second, 0 if not.",
        labels=_WORKER,
        merge=Merge.PER_WORKER,
        set_by=_AGGREGATOR,
    )
    worker_restarts: Counter = metric(
        Counter,
        "Starts of the worker after its first one.",
        unit="starts",
        labels=_WORKER,
        merge=Merge.PER_WORKER,
        set_by=_AGGREGATOR,
    )


def _of_process(
    name: str, text: str, unit: str = "", merge: Merge = Merge.SUM, kind: type[Counter | Gauge] = Gauge
) -> Definition:
    return Definition(
        kind=kind, help=text, unit=unit, merge=merge, set_by="metrics/process_metrics.py", attribute=f"process_{name}"
    )


PROCESS = (
    _of_process("virtual_memory_bytes", "Virtual memory size in bytes."),
    _of_process("resident_memory_bytes", "Resident memory size in bytes."),
    # The earliest is the supervisor's.
    _of_process("start_time_seconds", "Start time of the process since unix epoch in seconds.", merge=Merge.MIN),
    _of_process("cpu_seconds", "Total user and system CPU time spent in seconds.", kind=Counter),
    _of_process("open_fds", "Number of open file descriptors.", "file descriptors"),
    # Every process has the limit to itself.
    _of_process("max_fds", "Maximum number of open file descriptors.", "file descriptors", Merge.MIN),
)
"""What prometheus_client knows of a process, in its words."""

BY_NAME = {
    definition.name: definition
    for row in (*definitions_of(ServerTable), *definitions_of(SupervisorTable), *PROCESS)
    for definition in (row, *row.deprecated())
}
"""Every metric that is exported, old names included, by its name without the suffix of its kind."""
