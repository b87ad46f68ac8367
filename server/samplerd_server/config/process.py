"""What draws, in how many processes, and what they tell operators."""

from __future__ import annotations

from dataclasses import dataclass

from samplerd_server.config.parsers import bounded_duration, choice, device, integer, optional_address
from samplerd_server.config.setting import Setting, setting
from samplerd_server.core.units import format_duration

__all__ = ["EngineConfig", "LogConfig", "MetricsConfig", "WorkerConfig", "WorkersConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """What draws."""

    device: str = setting(
        "auto",
        Setting(flag="device", help="auto, cpu, cuda or cuda:N; auto takes CUDA where there is one", parse=device),
    )
    kernel: str = setting(
        "auto",
        Setting(
            flag="kernel",
            help="auto, numba or torch: the implementation of the sampler; auto takes numba on a CPU, torch on CUDA",
            parse=choice("auto", "numba", "torch"),
        ),
    )
    threads: int = setting(
        0,
        Setting(
            flag="threads",
            help="CPU threads that draw; 0 takes the worker's share of the cores, less one for its event loop",
            parse=integer(0, 1024),
        ),
    )
    event_loop_draw_limit_s: float = setting(
        500e-6,
        Setting(
            flag="event-loop-draw-limit",
            deprecated=("inline-budget",),
            help="on a CPU, a batch predicted to take less time than this is drawn on the event loop, without handing "
            "it to the device thread; 0 = never",
            parse=bounded_duration(1.0),
            show=format_duration,
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersConfig:
    """How many whole servers serve."""

    count: int = setting(
        1,
        Setting(
            flag="workers",
            help="whole servers that share the addresses, each with its own queue and device; see docs/workers.md",
            parse=integer(1, 256),
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsConfig:
    """Where Prometheus scrapes."""

    listen: str = setting(
        "127.0.0.1:9464",
        Setting(flag="metrics-listen", help="address of /metrics, host:port, or off", parse=optional_address),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """What is logged, to standard error."""

    level: str = setting(
        "info", Setting(flag="log-level", help="least severity", parse=choice("debug", "info", "warning", "error"))
    )
    format: str = setting(
        "text", Setting(flag="log-format", help="text, or json with one object a line", parse=choice("text", "json"))
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """What a supervisor tells a worker beside the settings (`config/handoff.py`); nobody writes it by hand."""

    index: int
    """Which one it is, from 0; a restarted worker takes its predecessor's place."""
    count: int
    """Workers in all."""
    control: int
    """File descriptor of the socket that it shares with the supervisor (`process/lifecycle.py`)."""
    metrics_socket: str
    """Path of the Unix socket where it answers with what it has counted (metrics/snapshot.py); empty = nobody."""
    started_at_s: float
    """When the supervisor started, in seconds since the epoch."""
    distributions: str = ""
    """Folder in which all workers keep uploaded distributions; empty = each in its own memory."""
    folder: str = ""
    """The supervisor's private folder, which its workers remove if it has died; empty = none."""
