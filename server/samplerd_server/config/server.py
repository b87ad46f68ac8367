"""The whole configuration: its sections, and the checks that concern several of them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING

from samplerd_server.config.process import EngineConfig, LogConfig, MetricsConfig, WorkerConfig, WorkersConfig
from samplerd_server.config.security import SecurityConfig
from samplerd_server.config.setting import ConfigError
from samplerd_server.config.tracing import TracingConfig
from samplerd_server.config.transport import EnvoyConfig, TransportConfig
from samplerd_server.config.workload import AdmissionConfig, BatchingConfig, DistributionsConfig, LimitsConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SECTIONS", "ServerConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """All settings, by section."""

    transport: TransportConfig = field(default_factory=TransportConfig)
    security: SecurityConfig = field(default_factory=SecurityConfig)
    envoy: EnvoyConfig = field(default_factory=EnvoyConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    admission: AdmissionConfig = field(default_factory=AdmissionConfig)
    distributions: DistributionsConfig = field(default_factory=DistributionsConfig)
    batching: BatchingConfig = field(default_factory=BatchingConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    workers: WorkersConfig = field(default_factory=WorkersConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    log: LogConfig = field(default_factory=LogConfig)
    tracing: TracingConfig = field(default_factory=TracingConfig)
    worker: WorkerConfig | None = None
    """Set by a supervisor in its workers; no section of the file."""

    @property
    def spare_kernels(self) -> Path | None:
        """Folder for compiled kernels that workers share where no other can be written; None = not a worker."""
        return Path(self.worker.folder, "kernels") if self.worker is not None and self.worker.folder else None

    @property
    def has_several_processes(self) -> bool:
        """Whether a supervisor starts the processes that serve."""
        return self.workers.count > 1 or self.workers.doors > 0

    def __post_init__(self) -> None:
        """Check what concerns several sections.

        Raises:
            ConfigError: two settings exclude each other.

        """
        unix = [address for address in self.transport.listen if address.startswith("unix")]
        if self.transport.transport == "envoy" and self.security.certificate and unix:
            raise ConfigError(
                "with --transport envoy, TLS is for all addresses or for none: leave out --tls-cert or the Unix socket"
            )
        if self.transport.transport == "envoy" and self.transport.http_listen:
            raise ConfigError("with --transport envoy, HTTP is on the addresses of --listen: leave out --http-listen")
        is_bounded = self.transport.transport == "envoy" or self.transport.http_listen
        if is_bounded and self.admission.incoming_bytes < self.transport.max_message_bytes:
            raise ConfigError("--incoming-bytes must be at least --max-message-bytes, or no such message could arrive")
        if self.metrics.http_ui and not self.metrics.listen:
            raise ConfigError("--http-ui serves its page on --metrics-listen, which is off")
        if self.workers.count > 1 and self.workers.doors:
            raise ConfigError(
                f"--workers {self.workers.count} and --doors {self.workers.doors}: the processes are whole servers or "
                "doors of one engine, not both; leave one of the two out"
            )
        self._check_shared(unix)

    def _check_shared(self, unix: list[str]) -> None:
        """Check that processes which share the addresses can share them; `unix`: those that are Unix sockets."""
        several = f"--workers {self.workers.count}" if self.workers.count > 1 else f"--doors {self.workers.doors}"
        alone = "--workers 1" if self.workers.count > 1 else "--doors 0"
        if not self.has_several_processes:
            return
        if unix:
            message = f"a Unix socket belongs to one server; listen on host:port, or use {alone}"
            raise ConfigError(f"{several}: cannot share {unix[0]}: {message}")
        if self.envoy.admin:
            what = "worker" if self.workers.count > 1 else "door"
            message = f"each {what} has an Envoy of its own; leave it off, or use {alone}"
            raise ConfigError(f"{several}: cannot share --envoy-admin {self.envoy.admin}: {message}")


SECTIONS: Mapping[str, type] = {
    "transport": TransportConfig,
    "security": SecurityConfig,
    "envoy": EnvoyConfig,
    "limits": LimitsConfig,
    "admission": AdmissionConfig,
    "distributions": DistributionsConfig,
    "batching": BatchingConfig,
    "engine": EngineConfig,
    "workers": WorkersConfig,
    "metrics": MetricsConfig,
    "log": LogConfig,
    "tracing": TracingConfig,
}
"""Name of each section and its class."""


assert {*SECTIONS, "worker"} == {item.name for item in fields(ServerConfig)}, "a section has no class. This is a bug."
