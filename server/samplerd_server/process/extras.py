"""Whether the packages of the extras are installed: the base install is the client alone."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from samplerd_server.config import ServerConfig

__all__ = ["complaint_of_missing_packages", "without_missing_traces"]

_PACKAGES = ("torch", "numba", "prometheus_client", "grpc_health", "grpc_reflection", "pyasn1")
_TRACING = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def complaint_of_missing_packages(*, is_traced: bool = False) -> str | None:
    """Say in one sentence what to install, or return None if nothing is missing; `is_traced`: for traces too."""
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if not missing:
        if is_traced and not all(map(_is_installed, _TRACING)):
            return "--trace-endpoint needs OpenTelemetry: pip install 'samplerd[otel]'"
        return None
    return f"the server needs pip install 'samplerd[server]': not installed: {', '.join(missing)}"


def without_missing_traces(config: ServerConfig, offered_by: str) -> tuple[ServerConfig, list[str]]:
    """Turn traces off that no setting of samplerd asks for, if their packages are missing.

    A variable such as OTEL_EXPORTER_OTLP_ENDPOINT is set for all programs of a machine or a pod: it must not keep one
    from serving.

    Args:
        config: the settings.
        offered_by: the variable that alone turned tracing on; "" = none did.

    Returns:
        The settings, and the warnings of what was turned off.

    """
    if not offered_by or all(map(_is_installed, _TRACING)):
        return config, []
    warning = f"{offered_by} is set, but no traces are sent: OpenTelemetry is missing (pip install 'samplerd[otel]')"
    return replace(config, tracing=replace(config.tracing, endpoint="")), [warning]
