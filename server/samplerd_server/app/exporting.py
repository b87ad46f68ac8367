"""How this process's metrics get out: on an address of its own, or to the supervisor of its workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samplerd_server.core.errors import BindError
from samplerd_server.metrics.exporter import Exporter
from samplerd_server.metrics.process_metrics import ProcessMetrics
from samplerd_server.metrics.snapshot import SnapshotServer
from samplerd_server.transport.page.routes import offer_page

if TYPE_CHECKING:
    from samplerd_server.config import ServerConfig
    from samplerd_server.metrics.metrics import Metrics
    from samplerd_server.process.probes import Probes

__all__ = ["Exporting"]


class Exporting:
    """What answers scrapers, probes and browsers; a worker answers its supervisor alone."""

    def __init__(self, config: ServerConfig, metrics: Metrics, probes: Probes, exporter: Exporter | None) -> None:
        """Take what listens already as `exporter`; None = nothing does."""
        self._config = config
        self._probes = probes
        self._exporter: Exporter | None = None
        self._snapshot_server: SnapshotServer | None = None
        self._is_listening = exporter is not None
        worker, listen = config.worker, config.metrics.listen
        if worker is not None and worker.metrics_socket:
            self._snapshot_server = SnapshotServer(worker.metrics_socket, metrics, ProcessMetrics())
        elif worker is None and listen:
            self._exporter = exporter or Exporter(listen, ProcessMetrics())
            self._exporter.register(metrics)
        self.address = listen if self._is_listening else "off"
        """Where /metrics is, with the port that the system chose; ``off`` until it is somewhere."""

    def start(self, served: str) -> None:
        """Begin to answer; `served` is an address at which this server's gRPC is, which the page asks.

        Raises:
            BindError: the address of /metrics cannot be listened on.

        """
        if self._exporter is not None and not self._is_listening:
            self._probes.answer_on(self._exporter)
            listen = self._config.metrics.listen
            try:
                port = self._exporter.start(shares_port=self._config.transport.transport == "envoy")
            except OSError as error:
                raise BindError(f"cannot listen on {listen} for /metrics: {error.strerror}") from error
            self.address = f"{listen.rpartition(':')[0]}:{port}"
        offer_page(self._exporter, self._config, served)
        if self._snapshot_server is not None:
            self._snapshot_server.start()

    def stop(self) -> None:
        """Answer no longer."""
        if self._exporter is not None:
            self._exporter.stop()
        if self._snapshot_server is not None:
            self._snapshot_server.stop()
