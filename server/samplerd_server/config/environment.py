"""The environment variables of samplerd; the only module that reads the environment."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "compiler_is_configured",
    "environment",
    "interpret_kernels",
    "interpreter_environment",
    "kernel_folders",
    "offered_collector",
    "silence_forks",
    "take_service_manager",
]

_SERVICE_LINK = re.compile(r"SAMPLERD_(SERVICE_(HOST|PORT(_\w+)?)|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)")
"""Variables that Kubernetes sets in every container of a namespace with a Service named samplerd."""

_EMBEDDING = frozenset({"LD_PRELOAD", "PYTHONHOME"})
"""Variables that make Python run inside Envoy."""

_PROTOCOL = "http/protobuf"

_CLIENTS = frozenset({"SAMPLERD_SERVER", "SAMPLERD_TOKEN"})
"""The variables of samplerctl, which may be set on the machine of a server."""


def environment() -> Mapping[str, str]:
    """Give the variables that begin with ``SAMPLERD_``, except those of Kubernetes' service links and of samplerctl."""
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith("SAMPLERD_") and name not in _CLIENTS and not _SERVICE_LINK.fullmatch(name)
    }


def offered_collector() -> tuple[str, str]:
    """Read the variables of OpenTelemetry's specification (OTLP Exporter), which many programs of a machine read.

    Returns:
        The name of the variable that names a collector, and its URL as --trace-endpoint takes it; twice "" if none
        does.

    Raises:
        ValueError: they name a collector, and ask for a protocol that samplerd does not speak.

    """
    found = [
        (name, url.rstrip("/") + path if path else url)
        for name, path in (("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", ""), ("OTEL_EXPORTER_OTLP_ENDPOINT", "/v1/traces"))
        if (url := os.environ.get(name, ""))
    ]
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL") if found else ():
        protocol = os.environ.get(name, "")
        if protocol not in {"", _PROTOCOL}:
            raise ValueError(f"{name} is {protocol[:40]!r}, and samplerd speaks {_PROTOCOL}")
        if protocol:
            break
    return found[0] if found else ("", "")


def interpreter_environment() -> dict[str, str]:
    """Give the variables of a Python process that this one starts: its own, those of samplerd excepted.

    Inside Envoy, those that embed Python there would keep another Python from starting.
    """
    embedding = _EMBEDDING if "SAMPLERD_CONFIG" in os.environ and "LD_PRELOAD" in os.environ else frozenset()
    return {
        name: value for name, value in os.environ.items() if not name.startswith("SAMPLERD_") and name not in embedding
    }


def compiler_is_configured() -> bool:
    """Tell whether numba is told how to compile, so that its machine code may be another than by default."""
    harmless = {"NUMBA_CACHE_DIR", "NUMBA_NUM_THREADS"}
    is_told = any(name.startswith("NUMBA_") and name not in harmless for name in os.environ)
    return is_told or Path(".numba_config.yaml").exists()


def kernel_folders(beside: Path) -> Iterator[Path]:
    """Give the folders of linked kernels: where numba keeps what it compiles, in the same order.

    Args:
        beside: the folder of the installation itself.

    """
    own = os.environ.get("NUMBA_CACHE_DIR", "")
    # Without a home it stays "~", and is left out.
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111
    for folder in (Path(own, "linked_kernels") if own else None, beside, Path(caches, "numba", "linked_kernels")):
        if folder is not None and folder.is_absolute():
            yield folder


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
