"""Whether the packages of the extra `server` are installed: the base install is the client alone."""

from __future__ import annotations

from importlib.util import find_spec

__all__ = ["complaint_of_missing_packages"]

_PACKAGES = ("torch", "numba", "prometheus_client", "grpc_health", "grpc_reflection")


def complaint_of_missing_packages() -> str | None:
    """Say in one sentence what to install, or return None if the server has all that it needs."""
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if not missing:
        return None
    return f"the server needs pip install 'samplerd[server]': not installed: {', '.join(missing)}"
