"""The peers: how each is installed into an environment of its own, started, called and loaded.

All draw with `torch.multinomial(torch.softmax(logits / temperature, -1), 1)` on one torch thread, at most 64 rows at
once, gathered for at most 2 ms. A reply has the same length whatever was drawn, so the bytes that h2load received say
whether every call was answered: h2load itself takes a gRPC error for a success, Ray's empty ones too.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.load import Load, LoadError
from benchmarks.report import ROOT
from benchmarks.servers import ServerError, ServerProcess, free_ports

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.report import Progress

__all__ = ["PEERS", "Body", "Peer", "PeerServer", "checked_body", "install"]

HERE = Path(__file__).parent
ENVIRONMENTS = ROOT / "build" / "peers"
TEMPERATURE = "0.8"
_INSTALL_S = 1_800.0
_CALL_S = 90.0
_LOGIT = 60.0
"""Added to one id's logit, it leaves no chance to any other: the probability of another is below 1e-15."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One of them."""

    name: str
    version: str
    api: str
    """What it speaks."""
    requirements: tuple[str, ...]
    """Beside torch, whose version is the project's."""
    load: Load
    prepare: Callable[[Path, Path], None]
    """Puts into the second folder what the server needs; the first is its environment."""
    command: Callable[[Path, Path, int, int], tuple[list[str], dict[str, str]]]
    """From the environment, the prepared folder, its port and a spare one: what to start, and additional variables."""

    @property
    def environment(self) -> Path:
        """The virtual environment."""
        return ENVIRONMENTS / self.name

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self.environment / "bin" / "python"


def _nothing(_environment: Path, _folder: Path) -> None:
    pass


def _mosec(environment: Path, _folder: Path, port: int, _spare: int) -> tuple[list[str], dict[str, str]]:
    limits = ["--timeout", "60000", "--max-body-size", str(64 << 20), "--capacity", "4096"]
    python = str(environment / "bin" / "python")
    return [python, str(HERE / "mosec_server.py"), "--address", "127.0.0.1", "--port", str(port), *limits], {}


def _site(environment: Path) -> Path:
    return environment / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"


def _prepare_triton(environment: Path, folder: Path) -> None:
    wheel = _site(environment) / "pytriton" / "tritonserver"
    backend, model = folder / "backends" / "python", folder / "models" / "sampler"
    shutil.copytree(wheel / "backends" / "python", backend)
    stub = wheel / "python_backend_stubs" / sysconfig.get_python_version() / "triton_python_backend_stub"
    shutil.copy(stub, backend)
    (model / "1").mkdir(parents=True)
    shutil.copy(HERE / "triton.pbtxt", model / "config.pbtxt")
    shutil.copy(HERE / "triton_entry.py", model / "1" / "model.py")
    (model / "1" / "paths").write_text(f"{HERE}\n{_site(environment)}\n")


def _triton(environment: Path, folder: Path, port: int, _spare: int) -> tuple[list[str], dict[str, str]]:
    library = sysconfig.get_config_var("LIBDIR")
    command = [str(_site(environment) / "pytriton" / "tritonserver" / "bin" / "tritonserver")]
    command += [f"--model-repository={folder / 'models'}", f"--backend-directory={folder / 'backends'}"]
    command += ["--grpc-address=127.0.0.1", f"--grpc-port={port}", "--allow-http=false", "--allow-metrics=false"]
    variables = {
        # The wheel's own libraries, and the interpreter's libpython rather than the distribution's.
        "LD_LIBRARY_PATH": f"{_site(environment) / 'nvidia_pytriton.libs'}:{library}",
        "PYTHONHOME": sysconfig.get_config_var("prefix"),
    }
    return command, variables


def _prepare_ray(environment: Path, folder: Path) -> None:
    shutil.copy(HERE / "ray_sampler.proto", folder / "sampler.proto")
    command = [str(environment / "bin" / "python"), "-m", "grpc_tools.protoc", "-I.", "--python_out=."]
    subprocess.run([*command, "--grpc_python_out=.", "sampler.proto"], cwd=folder, check=True, timeout=_CALL_S)


def _ray(environment: Path, folder: Path, port: int, spare: int) -> tuple[list[str], dict[str, str]]:
    command = [str(environment / "bin" / "python"), str(HERE / "ray_server.py")]
    return [*command, str(port), str(folder), str(folder / "ray"), str(spare)], {"RAY_USAGE_STATS_ENABLED": "0"}


_GRPC = Load().headers
PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            name="mosec",
            version="0.9.8",
            api="HTTP/1.1, msgpack",
            requirements=("mosec==0.9.8", "msgpack", "numpy"),
            # HTTP/1.1 has one call in flight on a connection; over HTTP/2 mosec takes less than half as many.
            load=Load(
                path="/inference",
                connections=64,
                streams=1,
                headers=("content-type: application/msgpack",),
                is_http1=True,
            ),
            prepare=_nothing,
            command=_mosec,
        ),
        Peer(
            name="triton",
            version="2.51.0",
            api="gRPC, Open Inference Protocol",
            requirements=("nvidia-pytriton==0.7.0", "tritonclient[grpc]"),
            load=Load(path="/inference.GRPCInferenceService/ModelInfer"),
            prepare=_prepare_triton,
            command=_triton,
        ),
        Peer(
            name="ray",
            version="2.60.0",
            api="gRPC, a proto of ours",
            requirements=("ray[serve,serve-grpc]==2.60.0", "grpcio-tools", "numpy"),
            load=Load(path="/peers.Sampler/Sample", headers=(*_GRPC, "application: sampler")),
            prepare=_prepare_ray,
            command=_ray,
        ),
    )
}


def install(peer: Peer, progress: Progress) -> None:
    """Make the peer's environment, unless it is there already.

    Raises:
        ServerError: an installation failed.

    """
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    wanted = [next(pin for pin in pins if pin.startswith("torch==")), *peer.requirements]
    stamp = peer.environment / "installed"
    if stamp.exists() and stamp.read_text().split() == wanted:
        return
    progress(f"installing {', '.join(wanted)} into {peer.environment}: minutes")
    shutil.rmtree(peer.environment, ignore_errors=True)
    pip = [str(peer.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # torch first and by itself, so that nothing else decides which torch it is.
    for command in ([_python(), "-m", "venv", str(peer.environment)], [*pip, wanted[0]], [*pip, *wanted]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_S, check=False)
        if done.returncode != 0:
            raise ServerError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    stamp.write_text("\n".join(wanted))


def _python() -> str:
    """Give the interpreter that this environment was made from: an environment of an environment finds no libpython."""
    return str(Path(sysconfig.get_config_var("BINDIR")) / f"python{sysconfig.get_python_version()}")


class PeerServer(ServerProcess):
    """A peer that runs as a child; it serves once its own client is answered."""

    def __init__(self, peer: Peer, folder: Path) -> None:
        peer.prepare(peer.environment, folder)
        port, spare = free_ports(2)
        command, variables = peer.command(peer.environment, folder, port, spare)
        variables = {"OMP_NUM_THREADS": "1", **variables}
        super().__init__(command, port, self._is_answered, environment={**_clean(), **variables})
        self.peer = peer
        self.folder = folder
        self._last_error = ""
        np.zeros(8, "<f4").tofile(folder / "first")

    def _is_answered(self) -> bool:
        try:
            _call(self, self.folder / "first", self.folder / "first.body")
        except LoadError as error:
            self._last_error = str(error)
            time.sleep(0.5)
            return False
        return True

    def tail(self, lines: int = 20) -> str:
        """Return the end of what it printed, and what its client last said."""
        return f"{super().tail(lines)}\n{self._last_error}"


def _clean() -> dict[str, str]:
    """Give the environment without what is meant for this project's own Python."""
    return {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}


@dataclass(frozen=True, slots=True)
class Body:
    """A call that was answered as it should be."""

    path: Path
    """The bytes that h2load sends."""
    reply_bytes: int
    """How long each reply is."""


def _call(server: PeerServer, logits: Path, body: Path) -> tuple[int, int]:
    script = str(HERE / f"{server.peer.name}_client.py")
    command = [str(server.peer.python), script, str(server.port), str(logits), TEMPERATURE, str(body)]
    try:
        done = subprocess.run(
            [*command, str(server.folder)], capture_output=True, text=True, timeout=_CALL_S, check=False, env=_clean()
        )
    except subprocess.TimeoutExpired as error:
        raise LoadError(f"{server.peer.name}'s client had no answer after {_CALL_S:g} s") from error
    if done.returncode != 0:
        raise LoadError(f"{server.peer.name}'s client failed: {done.stderr[-1000:]}")
    answer = json.loads(done.stdout.splitlines()[-1])
    return int(answer["id"]), int(answer["reply_bytes"])


def checked_body(server: PeerServer, row: np.ndarray) -> Body:
    """Call with the peer's own client, check what it draws, and give the call for h2load.

    Raises:
        LoadError: the client failed, or an id is not of the row, or not the only one that can be drawn.

    """
    vocab_size = len(row)
    certain = row.copy()
    certain[vocab_size // 3] += _LOGIT + float(np.ptp(row))
    certain.astype("<f4").tofile(server.folder / "certain")
    row.astype("<f4").tofile(server.folder / "row")
    only, _ = _call(server, server.folder / "certain", server.folder / "certain.body")
    if only != vocab_size // 3:
        raise LoadError(f"{server.peer.name} drew {only} where only {vocab_size // 3} can be drawn")
    path = server.folder / f"{vocab_size}.body"
    drawn, reply_bytes = _call(server, server.folder / "row", path)
    if not 0 <= drawn < vocab_size:
        raise LoadError(f"{server.peer.name} drew {drawn} of {vocab_size}")
    return Body(path, reply_bytes)
