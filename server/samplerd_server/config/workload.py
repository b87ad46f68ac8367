"""What is accepted, how much of it may wait, and when it becomes a batch."""

from __future__ import annotations

from dataclasses import dataclass

from samplerd_server.config.parsers import bounded_bytes, bounded_duration, integer
from samplerd_server.config.setting import Setting, setting
from samplerd_server.core.units import format_bytes, format_duration

__all__ = ["AdmissionConfig", "BatchingConfig", "DistributionsConfig", "LimitsConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsConfig:
    """The largest request that is taken."""

    max_rows: int = setting(
        4096, Setting(flag="max-rows-per-request", help="rows of a request", parse=integer(1, 1 << 20))
    )
    max_vocab_size: int = setting(
        1 << 25, Setting(flag="max-vocab-size", help="numbers in a row", parse=integer(1, 1 << 28))
    )
    max_samples: int = setting(
        1 << 22,
        Setting(flag="max-samples-per-request", help="rows x num_samples of a request", parse=integer(1, 1 << 28)),
    )
    max_top_n: int = setting(1024, Setting(flag="max-top-n", help="outputs.top_n", parse=integer(0, 1 << 20)))
    max_ids_per_list: int = setting(
        1 << 18,
        Setting(
            flag="max-ids-per-list",
            deprecated=("max-tokens-per-row",),
            help="most ids in each list of a request: history, allowed_tokens, logit_bias, logprob_ids, "
            "sequence_breakers",
            parse=integer(1, 1 << 24),
        ),
    )
    chunk_samples: int = setting(
        1 << 18,
        Setting(flag="chunk-samples", help="samples in one chunk of a streamed reply", parse=integer(1, 1 << 26)),
    )
    max_stream_samples: int = setting(
        1 << 32,
        Setting(
            flag="max-stream-samples",
            help="rows x num_samples of a request that samples a distribution on a stream, drawn chunk by chunk",
            parse=integer(1, 1 << 48),
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionConfig:
    """How much may wait."""

    queue_rows: int = setting(
        16384,
        Setting(flag="queue-rows", help="rows that may wait; past it RESOURCE_EXHAUSTED", parse=integer(1, 1 << 24)),
    )
    queue_bytes: int = setting(
        1 << 30,
        Setting(
            flag="queue-bytes",
            help="bytes of rows that may wait; past it RESOURCE_EXHAUSTED",
            parse=bounded_bytes(1 << 10, 1 << 42),
            show=format_bytes,
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributionsConfig:
    """What uploaded distributions may take."""

    max_count: int = setting(
        256,
        Setting(
            flag="max-distributions",
            help="uploaded distributions; past it RESOURCE_EXHAUSTED; 0 = none may be uploaded",
            parse=integer(0, 1 << 16),
        ),
    )
    max_bytes: int = setting(
        1 << 30,
        Setting(
            flag="distribution-bytes",
            help="memory for uploaded distributions, their tables included; past it RESOURCE_EXHAUSTED",
            parse=bounded_bytes(0, 1 << 44),
            show=format_bytes,
        ),
    )
    ttl_s: float = setting(
        3600.0,
        Setting(
            flag="distribution-ttl",
            help="a distribution that came without a ttl is freed when unused for so long; 0 = never",
            parse=bounded_duration(315_576_000),
            show=format_duration,
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchingConfig:
    """When a batch is closed."""

    max_rows: int = setting(256, Setting(flag="max-batch-rows", help="rows in one batch", parse=integer(1, 1 << 20)))
    max_bytes: int = setting(
        128 << 20,
        Setting(
            flag="max-batch-bytes",
            help="bytes of rows in one batch; a larger request is a batch of its own",
            parse=bounded_bytes(1 << 10, 1 << 40),
            show=format_bytes,
        ),
    )
    max_queue_delay_s: float = setting(
        0.0,
        Setting(
            flag="max-queue-delay",
            help="how long a request may wait, from its arrival, for its batch to fill while the device is idle",
            parse=bounded_duration(60),
            show=format_duration,
        ),
    )
