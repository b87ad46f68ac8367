"""Whether the packages of the extra `server` are installed: the base install is the client alone."""

from __future__ import annotations

from importlib.util import find_spec

__all__ = ["complaint_of_missing_packages"]

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
