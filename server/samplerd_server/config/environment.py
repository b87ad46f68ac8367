"""The environment variables of samplerd; the only module that reads the environment."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["environment", "interpret_kernels", "interpreter_environment", "silence_forks", "take_service_manager"]

_SERVICE_LINK = re.compile(r"SAMPLERD_(SERVICE_(HOST|PORT(_\w+)?)|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)")
"""Variables that Kubernetes sets in every container of a namespace with a Service named samplerd."""

_EMBEDDING = frozenset({"LD_PRELOAD", "PYTHONHOME"})
"""Variables that make Python run inside Envoy."""

_CLIENTS = frozenset({"SAMPLERD_SERVER", "SAMPLERD_TOKEN"})
"""The variables of samplerctl, which may be set on the machine of a server."""


def environment() -> Mapping[str, str]:
    """Give the variables that begin with ``SAMPLERD_``, except those of Kubernetes' service links and of samplerctl.

    OpenTelemetry's own variables for a collector's address stand for SAMPLERD_TRACE_ENDPOINT where that is not set.
    """
    own = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("SAMPLERD_") and name not in _CLIENTS and not _SERVICE_LINK.fullmatch(name)
    }
    return _trace_endpoint() | own


def _trace_endpoint() -> dict[str, str]:
    """Read the variables of OpenTelemetry's specification (OTLP Exporter); nothing if they ask for another protocol."""
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "")
    if os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", protocol) not in {"", "http/protobuf"}:
        return {}
    exact, base = (os.environ.get(f"OTEL_EXPORTER_OTLP_{part}ENDPOINT", "") for part in ("TRACES_", ""))
    url = exact or (f"{base.rstrip('/')}/v1/traces" if base else "")
    return {"SAMPLERD_TRACE_ENDPOINT": url} if url else {}


def interpreter_environment() -> dict[str, str]:
    """Give the variables of a Python process that this one starts: its own, those of samplerd excepted.

    Inside Envoy, those that embed Python there would keep another Python from starting.
    """
    embedding = _EMBEDDING if "SAMPLERD_CONFIG" in os.environ and "LD_PRELOAD" in os.environ else frozenset()
    return {
        name: value for name, value in os.environ.items() if not name.startswith("SAMPLERD_") and name not in embedding
    }


def interpret_kernels() -> None:
    """Let triton interpret the kernels of a GPU in this process; to be called before it is imported."""
    os.environ["TRITON_INTERPRET"] = "1"


def silence_forks() -> None:
    """Keep grpcio from writing to standard error when a process is started; to be called before it is imported.

    It prepares for processes that go on in Python after a fork, and logs when it cannot. Ours only start programs.
    """
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")


def take_service_manager() -> tuple[str, float]:
    """Give and remove what systemd tells the process that it starts, which must not reach this one's children.

    Returns:
        The address of its socket, empty if there is none, and the seconds within which it expects a sign of life, 0 if
        it expects none or expects it of another process.

    """
    address = os.environ.pop("NOTIFY_SOCKET", "")
    period_us, pid = os.environ.pop("WATCHDOG_USEC", ""), os.environ.pop("WATCHDOG_PID", "")
    is_ours = period_us.isdecimal() and pid in ("", str(os.getpid()))
    return address, int(period_us) / 1e6 if is_ours else 0.0
