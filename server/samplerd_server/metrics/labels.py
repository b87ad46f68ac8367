"""The labels of the metrics in `table.py`, with their values, and the bounds of histograms.

The table names them by this module: ``labels.CODE``.
"""

from __future__ import annotations

from samplerd_server.core.enums import Dtype, RowErrorReason
from samplerd_server.metrics.definition import Buckets, Label

SECONDS = Buckets(
    (*(1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),),
    "1-2-5 from 10 us (a small batch on a CPU) to 10 s (a queue about to be shed)",
)
ROWS = Buckets(
    tuple(float(1 << power) for power in range(13)),
    "powers of two from 1 to 4,096, past any sensible `--max-batch-rows`",
)

RPC = Label("rpc", of_rpc="method")
TIMED = Label("rpc", of_rpc="timed_as")
CODE = Label("code", of_rpc="codes")
GRPC = (
    Label("grpc_type", of_rpc="grpc_type"),
    Label("grpc_service", of_rpc="service"),
    Label("grpc_method", of_rpc="method"),
)
GRPC_CODE = Label("grpc_code", of_rpc="grpc_codes")
OTHER_CALL = Label(
    "kind",
    {
        "health": "of `grpc.health.v1.Health`",
        "reflection": "of server reflection",
        "unknown": "of a method that does not exist: answered UNIMPLEMENTED",
    },
)
PATH = Label("path", {"greedy": "temperature 0: the likeliest id", "random": "any other temperature"})
CLOSED = Label(
    "reason",
    {
        "full": "it reached `--max-batch-rows` or `--max-batch-bytes`",
        "idle": "the device was idle, or as many rows waited as the running batch has",
        "delay": "its oldest request had waited for `--max-queue-delay`",
        "deadline": "a request's deadline was near",
        "slice": "it is a slice of a request that would hold the device for longer than `--max-slice`",
    },
)
ROW_ERROR = Label(
    "reason",
    {reason.name.lower(): "" for reason in RowErrorReason if reason},
    others="meanings in [the protocol](protocol.md), RowErrorReason",
)
SHED = Label(
    "reason",
    {
        "queue_rows": "the queue held `--queue-rows` already",
        "queue_bytes": "the queue held `--queue-bytes` already",
        "queue_wait": "the queue would have taken longer than `--max-queue-wait`",
        "incoming_bytes": "messages of `--incoming-bytes` were arriving already",
        "reply_bytes": "replies of `--reply-bytes` waited to be read already, or the caller had its share of them",
        "resets": "the connection had reset 2,000 calls within a second, and most of those that ended, or twice "
        "`--max-concurrent-streams` of its calls waited for their turn to be read; grpcio only",
        "waiting_calls": "16,384 calls waited for their turn to be read already; grpcio only",
        "deadline": "the queue would have taken longer than the request's deadline",
        "draining": "the server was shutting down",
        "engine_gone": "with `--doors`, the engine had ended and was not there again",
        "message_bytes": "the message had more than `--max-message-bytes`; those that grpcio refuses itself are among "
        "`samplerd_unread_calls_total`",
    },
)
IDENTITY = Label("identity", {"anonymous": "no name"}, others="a token or certificate; `other` after 64 names")
REFUSAL = Label("code", dict.fromkeys(("UNAUTHENTICATED", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED"), ""))
STAGE = Label("stage", {"queued": "in the queue: never computed", "computed": "in a batch: the result was thrown away"})
READ_CODE = Label(
    "code",
    {
        "invalid_argument": "the bytes are not all within the region, or it is not an ordinary file",
        "not_found": "there is no region of this name",
        "permission_denied": "the server may not read the region",
        "unavailable": "the server has no file descriptor or memory left",
    },
)
CUDA_CODE = Label(
    "code",
    {
        "invalid_argument": "the region was registered again meanwhile, and is smaller",
        "not_found": "the region was unregistered meanwhile",
        "unavailable": "the card could not copy",
    },
)
EVENT = Label(
    "event",
    {
        "created": "uploaded",
        "used": "named by a request",
        "deleted": "deleted by a request",
        "expired": "freed after its idle time without a use",
    },
)
UNREAD = Label(
    "stage",
    {
        "waiting": "grpcio had not handed it over yet",
        "reading": "it was being read, with grpcio also one over `--max-message-bytes`",
    },
)
SOURCE = Label(
    "source",
    {
        "logits": "rows of the message",
        "probabilities": "rows of the message that are weights",
        "candidates": "the likeliest ids alone",
        "shared_memory": "rows in shared memory, of the host or of a CUDA device",
        "distribution": "an uploaded distribution",
    },
)
DTYPE = Label("dtype", {dtype.name.lower(): "" for dtype in Dtype})
VOCABULARY = Label(
    "up_to",
    {"1024": "", "16384": "", "65536": "", "131072": "", "262144": "", "any": "more"},
    others="the classes do not overlap: `16384` is 1,025 to 16,384 ids",
)
FILTER = Label(
    "filter",
    {
        "none": "the temperature alone",
        "top_k": "",
        "top_p": "",
        "min_p": "",
        "top_a": "",
        "typical_p": "",
        "epsilon_cutoff": "",
        "eta_cutoff": "",
        "top_h": "",
        "top_n_sigma": "",
        "xtc": "",
        "temperature": "a dynamic temperature, smoothing, adaptive-p or skew",
        "penalty": "repetition, frequency or presence",
        "dry": "",
        "bias": "",
        "mask": "allowed ids, a bitmask, bad words or repeated n-grams",
        "guidance": "",
    },
)
WORKER = Label("worker", {}, others="the number of the worker or door, from 0, or `engine`; `0` without workers")
