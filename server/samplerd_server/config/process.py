"""Settings of the processes: the device, the workers, metrics and logs."""

from __future__ import annotations

from dataclasses import dataclass

from samplerd_server.config.parsers import (
    bounded_bytes,
    bounded_duration,
    choice,
    device,
    integer,
    optional_address,
    share,
    switch,
)
from samplerd_server.config.setting import Setting, setting
from samplerd_server.core.units import format_bytes, format_duration

__all__ = ["DOOR", "ENGINE", "WORKER", "EngineConfig", "LogConfig", "MetricsConfig", "WorkerConfig", "WorkersConfig"]


WORKER, DOOR, ENGINE = "worker", "door", "engine"
"""The roles of the processes that a supervisor starts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """The device and the sampler."""

    device: str = setting(
        "auto",
        Setting(
            flag="device",
            help="device that draws: auto, cpu, cuda or cuda:N; auto is CUDA if there is a GPU, else cpu",
            parse=device,
            value="DEVICE",
        ),
    )
    kernel: str = setting(
        "auto",
        Setting(
            flag="kernel",
            help="implementation of the sampler: auto, numba, torch or cuda; auto is numba on a CPU, and on CUDA the "
            "kernels of samplerd's own where they are compiled (pip install 'samplerd[cuda]'), else torch",
            parse=choice("auto", "numba", "torch", "cuda"),
            value="auto|numba|torch|cuda",
        ),
    )
    device_memory_bytes: int = setting(
        0,
        Setting(
            flag="device-memory",
            help="memory of the GPU that kernel cuda takes at the start, for the rows of batches and what is computed "
            "of them; 0 = an eighth of what the GPU has",
            parse=bounded_bytes(0, 1 << 42),
            show=format_bytes,
            value="BYTES",
        ),
    )
    threads: int = setting(
        0,
        Setting(
            flag="threads",
            help="CPU threads that draw; 0 = the cores that this process may use, by its affinity and its CPU quota "
            "(with --workers, its share of them), less one for the event loop",
            parse=integer(0, 1024),
        ),
    )
    stall_limit_s: float = setting(
        60.0,
        Setting(
            flag="stall-limit",
            help="longest time that a batch may compute, or that the event loop may be blocked; then requests are "
            "failed with UNAVAILABLE and the process ends with exit code 3, to be started again; 0 = no limit",
            parse=bounded_duration(86_400),
            show=format_duration,
            value="TIME",
        ),
    )
    event_loop_draw_limit_s: float = setting(
        500e-6,
        Setting(
            flag="event-loop-draw-limit",
            deprecated=("inline-budget",),
            help="on a CPU, a batch predicted to take less time than this is drawn on the event loop, not on the "
            "device thread; 0 = never",
            parse=bounded_duration(1.0),
            show=format_duration,
            value="TIME",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersConfig:
    """The number of server processes."""

    count: int = setting(
        1,
        Setting(
            flag="workers",
            help="server processes that share the addresses, each with its own queue and device (docs/workers.md)",
            parse=integer(1, 256),
        ),
    )
    doors: int = setting(
        0,
        Setting(
            flag="doors",
            help="front processes that share the addresses and one more process, the engine, which has the only queue "
            "and the device (docs/doors.md); 0 = one process does both",
            parse=integer(0, 256),
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsConfig:
    """Where Prometheus finds /metrics."""

    listen: str = setting(
        "127.0.0.1:9464",
        Setting(
            flag="metrics-listen",
            help="address of /metrics, /livez and /readyz, host:port, or off",
            parse=optional_address,
            value="HOST:PORT",
        ),
    )
    http_ui: bool = setting(
        False,  # noqa: FBT003  # the default of a switch
        Setting(
            flag="http-ui",
            help="serve a page for browsers on --metrics-listen: what the server does now, and a playground",
            parse=switch,
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """The log on standard error."""

    level: str = setting(
        "info",
        Setting(
            flag="log-level",
            help="lowest severity that is logged",
            parse=choice("debug", "info", "warning", "error"),
            value="debug|info|warning|error",
        ),
    )
    format: str = setting(
        "text",
        Setting(
            flag="log-format",
            help="text, or json with one object per line",
            parse=choice("text", "json"),
            value="text|json",
        ),
    )
    access: bool = setting(
        False,  # noqa: FBT003  # the default of a switch
        Setting(flag="access-log", help="log a line for each call that has ended (docs/tracing.md)", parse=switch),
    )
    access_sample: float = setting(
        1.0,
        Setting(
            flag="access-log-sample",
            help="share of the calls that --access-log writes, from 0 to 1; chosen at random",
            parse=share,
            value="SHARE",
        ),
    )
    access_errors: str = setting(
        "all",
        Setting(
            flag="access-log-errors",
            help="which of the calls that failed --access-log writes: all, or the same share as of the others",
            parse=choice("all", "sampled"),
            value="all|sampled",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """What the supervisor tells a worker beside the settings, in the handoff file (`config/handoff.py`)."""

    index: int
    """Number of the worker, from 0; a restarted worker keeps its number."""
    count: int
    """Number of workers."""
    control: int
    """File descriptor of the socket to the supervisor (`process/lifecycle.py`)."""
    metrics_socket: str
    """Path of the Unix socket on which it serves its metrics snapshot (metrics/snapshot.py); empty = it does not
    answer."""
    started_at_s: float
    """When the supervisor started, in seconds since the epoch."""
    epoch_s: float = 0.0
    """The time at which the system's monotonic clock was 0, in seconds since the epoch: one clock for all workers."""
    distributions: str = ""
    """Folder with the uploaded distributions of all workers; empty = each worker keeps its own in memory."""
    folder: str = ""
    """The supervisor's temporary folder, which the workers remove if the supervisor has died; empty = none."""
    role: str = WORKER
    """What the process is: a whole server, a door, or the engine behind the doors."""
    engine_socket: str = ""
    """Path of the Unix socket on which the engine waits for doors; empty = there are no doors."""

    @property
    def name(self) -> str:
        """What the process is called in metrics: its number, or ``engine``."""
        return ENGINE if self.role == ENGINE else str(self.index)
