"""Settings of the work: limits of a request, the queue, uploaded distributions, and batches."""

from __future__ import annotations

from dataclasses import dataclass

from samplerd_server.config.parsers import bounded_bytes, bounded_duration, integer
from samplerd_server.config.setting import Setting, setting
from samplerd_server.core.units import format_bytes, format_duration

__all__ = ["AdmissionConfig", "BatchingConfig", "DistributionsConfig", "LimitsConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsConfig:
    """Limits of a single request; one beyond them is refused with INVALID_ARGUMENT."""

    max_rows: int = setting(
        4096, Setting(flag="max-rows-per-request", help="most rows in a request", parse=integer(1, 1 << 20))
    )
    max_vocab_size: int = setting(
        1 << 25, Setting(flag="max-vocab-size", help="most numbers in a row, V", parse=integer(1, 1 << 28))
    )
    max_samples: int = setting(
        1 << 22,
        Setting(
            flag="max-samples-per-request",
            help="most samples in a request: rows x num_samples; also most of rows x top_n, and of rows x logprob_ids",
            parse=integer(1, 1 << 28),
        ),
    )
    max_top_n: int = setting(1024, Setting(flag="max-top-n", help="largest outputs.top_n", parse=integer(0, 1 << 16)))
    max_ids_per_list: int = setting(
        1 << 18,
        Setting(
            flag="max-ids-per-list",
            deprecated=("max-tokens-per-row",),
            help="most ids in each list of a request: history, allowed_tokens, logit_bias, bad_words, xtc_exempt_ids, "
            "sequence_breakers, breaker_sequences, logprob_ids, draft_ids",
            parse=integer(1, 1 << 24),
        ),
    )
    chunk_samples: int = setting(
        1 << 18,
        Setting(flag="chunk-samples", help="most samples in one chunk of a streamed reply", parse=integer(1, 1 << 26)),
    )
    max_stream_samples: int = setting(
        1 << 32,
        Setting(
            flag="max-stream-samples",
            help="most samples (rows x num_samples) of a request on a stream whose distribution is drawn chunk by "
            "chunk",
            parse=integer(1, 1 << 48),
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionConfig:
    """Bounds of the queue."""

    queue_rows: int = setting(
        16384,
        Setting(
            flag="queue-rows",
            help="most rows in the queue; a request beyond that is refused with RESOURCE_EXHAUSTED",
            parse=integer(1, 1 << 24),
        ),
    )
    queue_bytes: int = setting(
        1 << 30,
        Setting(
            flag="queue-bytes",
            help="most bytes that the requests in the queue hold, rows, the messages around them and lists of ids; "
            "a request beyond that is refused with RESOURCE_EXHAUSTED",
            parse=bounded_bytes(1 << 10, 1 << 42),
            show=format_bytes,
            value="SIZE",
        ),
    )
    max_queue_wait_s: float = setting(
        0.0,
        Setting(
            flag="max-queue-wait",
            help="longest predicted wait for the device: what it still has to finish and what the requests in the "
            "queue take; while that is longer, another request is refused with RESOURCE_EXHAUSTED; 0 = any time",
            parse=bounded_duration(86_400),
            show=format_duration,
            value="TIME",
        ),
    )
    incoming_bytes: int = setting(
        1 << 30,
        Setting(
            flag="incoming-bytes",
            help="most bytes of messages that have come in part, with envoy and over HTTP; a request beyond that is "
            "refused with RESOURCE_EXHAUSTED while it arrives",
            parse=bounded_bytes(1 << 10, 1 << 42),
            show=format_bytes,
            value="SIZE",
        ),
    )
    reply_bytes: int = setting(
        1 << 30,
        Setting(
            flag="reply-bytes",
            help="most bytes that replies hold until they are read, a quarter of them for one caller; a call whose "
            "reply would go beyond ends with RESOURCE_EXHAUSTED; less than 64 KiB of a call is not counted",
            parse=bounded_bytes(1 << 16, 1 << 42),
            show=format_bytes,
            value="SIZE",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributionsConfig:
    """Bounds of uploaded distributions."""

    max_count: int = setting(
        256,
        Setting(
            flag="max-distributions",
            help="most uploaded distributions; one more is refused with RESOURCE_EXHAUSTED; 0 = uploads are off",
            parse=integer(0, 1 << 16),
        ),
    )
    max_bytes: int = setting(
        1 << 30,
        Setting(
            flag="distribution-bytes",
            help="most bytes of all uploaded distributions together, CDF indexes included; an upload beyond that is "
            "refused with RESOURCE_EXHAUSTED",
            parse=bounded_bytes(0, 1 << 44),
            show=format_bytes,
            value="SIZE",
        ),
    )
    ttl_s: float = setting(
        3600.0,
        Setting(
            flag="distribution-ttl",
            help="default idle time after which an uploaded distribution is freed; 0 = never",
            parse=bounded_duration(315_576_000),
            show=format_duration,
            value="TIME",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchingConfig:
    """Bounds of a batch, and when it is closed."""

    max_rows: int = setting(
        256, Setting(flag="max-batch-rows", help="most rows in one batch", parse=integer(1, 1 << 20))
    )
    max_bytes: int = setting(
        128 << 20,
        Setting(
            flag="max-batch-bytes",
            help="most bytes that the requests of one batch hold; a larger request is a batch of its own",
            parse=bounded_bytes(1 << 10, 1 << 40),
            show=format_bytes,
            value="SIZE",
        ),
    )
    max_queue_delay_s: float = setting(
        0.0,
        Setting(
            flag="max-queue-delay",
            help="longest time that an idle device waits, from a request's arrival, for the batch to fill",
            parse=bounded_duration(60),
            show=format_duration,
            value="TIME",
        ),
    )
    max_slice_s: float = setting(
        20e-3,
        Setting(
            flag="max-slice",
            help="longest predicted time that a batch holds the device; a longer request is computed in slices of this "
            "length, between which others are served; 0 = requests are never cut",
            parse=bounded_duration(60),
            show=format_duration,
            value="TIME",
        ),
    )
