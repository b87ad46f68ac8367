"""The address of metrics and probes, which answers from the first moment on: not ready, and why."""

from __future__ import annotations

import dataclasses
import socket
from typing import TYPE_CHECKING

from samplerd_server.core.errors import BindError
from samplerd_server.metrics.exporter import Exporter
from samplerd_server.metrics.process_metrics import ProcessMetrics
from samplerd_server.process.probes import Probes

if TYPE_CHECKING:
    from samplerd_server.config import ServerConfig

__all__ = ["listen_for_probes"]


def listen_for_probes(
    config: ServerConfig, *, shares_port: bool = False
) -> tuple[ServerConfig, Exporter | None, Probes]:
    """Listen on the address of /metrics, and answer /livez and /readyz there, unless this is a worker or it is off.

    Args:
        config: the settings.
        shares_port: whether another process of this server will listen on the port too.

    Returns:
        The settings with the port that the system chose, what listens, and what it tells probes.

    Raises:
        BindError: the address cannot be listened on.

    """
    probes = Probes("importing modules")
    listen = config.metrics.listen
    if config.worker is not None or not listen:
        return config, None, probes
    exporter = Exporter(listen, ProcessMetrics())
    probes.answer_on(exporter)
    try:
        if shares_port:
            _check_free(listen)
        port = exporter.start(shares_port=shares_port)
    except OSError as error:
        raise BindError(f"cannot listen on {listen} for /metrics: {error.strerror}") from error
    exact = f"{listen.rpartition(':')[0]}:{port}"
    return dataclasses.replace(config, metrics=dataclasses.replace(config.metrics, listen=exact)), exporter, probes


def _check_free(listen: str) -> None:
    """Raise if a stranger listens there: a port that is shared would be shared with him too."""
    host, _, port = listen.rpartition(":")
    found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    family, kind, protocol, _, where = found[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(where)
