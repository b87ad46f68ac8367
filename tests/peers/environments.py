"""The environments of the peers: one below build/peers for each; `python -m tests.peers.environments` makes them.

Rule 1: torch is the project's own, installed first and by itself, so that nothing else decides which torch it is; a
package that pins another one is installed without its dependencies, and those that the sampler's modules import are
named here. Rule 2: a peer that cannot be installed ends the command with the sentence that says which and why.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path

from tests.peers.systems import SYSTEMS

__all__ = ["ENVIRONMENTS", "PARTS", "Environment", "install"]

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "peers"
_INSTALL_S = 3_600.0
"""llama.cpp is compiled from its source: minutes on each core that there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """How one peer is installed, and which worker runs in it."""

    system: str
    """Its name: that of `systems.SYSTEMS`, where it is one of them."""
    needs_torch: bool
    requirements: tuple[str, ...]
    """Installed after torch, in one command: what the modules in use import."""
    alone: tuple[str, ...]
    """Arguments of pip for the peer itself, which is installed last and without its dependencies."""
    variables: dict[str, str] = field(default_factory=dict)
    """Environment variables of that last command."""
    build: str = ""
    """A program of `workers` that runs in the environment last, and compiles what the worker needs."""
    why: str = ""
    """Why it is installed in this way, if it is not its own."""

    @property
    def folder(self) -> Path:
        """The virtual environment."""
        return FOLDER / self.system

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def worker(self) -> Path:
        """The program that runs in it."""
        return Path(__file__).parent / "workers" / f"{self.system.replace('.', '_').replace('-', '_')}_worker.py"

    def commands(self) -> list[list[str]]:
        """List what has to be run, first to last."""
        pip = [str(self.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        pins = (ROOT / "constraints.txt").read_text().splitlines()
        torch = [next(pin for pin in pins if pin.startswith("torch=="))]
        steps = [[_python(), "-m", "venv", str(self.folder)]]
        if self.needs_torch:
            steps.append([*pip, *torch, "numpy==2.4.6"])
        if self.requirements:
            steps.append([*pip, *(torch if self.needs_torch else []), *self.requirements])
        steps.append([*pip, *self.alone])
        if self.build:
            steps.append([str(self.python), str(self.worker.with_name(self.build))])
        return steps


def _pin(system: str) -> str:
    return f"{SYSTEMS[system].package}=={SYSTEMS[system].version}"


def _lines(requirements: str) -> tuple[str, ...]:
    return tuple(requirements.split())


ENVIRONMENTS: dict[str, Environment] = {
    own.system: own
    for own in (
        Environment(
            system="hugging_face",
            needs_torch=True,
            requirements=(),
            alone=(_pin("hugging_face"),),
        ),
        Environment(
            system="vllm",
            needs_torch=True,
            requirements=_lines("""
                setuptools==80.10.2 setuptools-scm==10.3.4 setuptools-rust==1.13.0 wheel==0.48.0 packaging==26.3
                jinja2==3.1.6 regex==2026.11.15 msgspec==0.22.0 pydantic==2.14.4 cloudpickle==3.1.3 psutil==7.2.2
                transformers==5.19.0 cbor2==6.3.0 pyzmq==27.3.0 fastapi==0.165.0 openai==3.57.0 blake3==1.0.11
                py-cpuinfo==9.0.0 cachetools==8.0.2 aiohttp==3.14.5 prometheus_client==0.26.0 requests==2.34.2
                tqdm==4.70.1 pybase64==1.5.1 setproctitle==1.3.8 pillow==13.0.0 oss-harmony==0.0.11 uvloop==0.23.0
                xgrammar==0.2.9 partial-json-parser==0.2.1.1.post7 llguidance==1.9.1 triton==3.9.0 numpy==2.4.6
            """),
            alone=("--no-deps", "--no-build-isolation", "--no-binary", "vllm", _pin("vllm")),
            variables={"VLLM_TARGET_DEVICE": "empty", "VLLM_VERSION_OVERRIDE": SYSTEMS["vllm"].version},
            why="its wheels are of a CUDA torch; its own build without compiled kernels has the whole sampler in torch",
        ),
        Environment(
            system="llama.cpp",
            needs_torch=False,
            # Behind numpy: what samplerd's client imports, whose loop is run there, and what writes a model for it.
            requirements=_lines("""
                numpy==2.4.6 gguf==0.19.0 googleapis-common-protos==1.76.0 grpcio==1.85.1 protobuf==7.36.2
            """),
            alone=("--no-binary", "llama-cpp-python", _pin("llama.cpp")),
            variables={
                "CMAKE_ARGS": "-DGGML_NATIVE=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF "
                "-DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAVA_BUILD=OFF -DLLAMA_CURL=OFF",
                "CMAKE_BUILD_PARALLEL_LEVEL": "1",
            },
            why="it is compiled from its source by one job, so that it takes minutes and not the machine",
        ),
        Environment(
            system="sglang",
            needs_torch=True,
            requirements=_lines("""
                orjson==3.13.0 psutil==7.2.2 pybase64==1.5.1 requests==2.34.2 triton==3.9.0 packaging==26.3
                pillow==13.0.0 starlette==1.10.0 msgspec==0.22.0 pydantic==2.14.4 pyzmq==27.3.0 tqdm==4.70.1
                ipython==9.18.1 aiohttp==3.14.5 apache-tvm-ffi==0.1.11 transformers==5.19.0 dill==0.4.1
                sentencepiece==0.2.3 compressed-tensors==0.20.1 gguf==0.19.0 openai==3.57.0
                partial-json-parser==0.2.1.1.post7 numpy==2.4.6
            """),
            alone=("--no-deps", _pin("sglang")),
            why="it requires CUDA packages; its torch sampler imports none of them, but torchvision, which is stubbed",
        ),
        Environment(
            system="mlx-lm",
            needs_torch=False,
            requirements=("mlx[cpu]==0.32.4", "numpy==2.4.6"),
            alone=(_pin("mlx-lm"),),
        ),
    )
}
"""By name of the system: every peer of which there is a package."""
PARTS: dict[str, Environment] = {
    own.system: own
    for own in (
        Environment(
            system="exllamav2",
            needs_torch=True,
            requirements=(),
            alone=("--no-deps", "exllamav2==0.3.2"),
            build="exllamav2_build.py",
            why="it requires CUDA; its sampler is C++ for the CPU, which is compiled by itself",
        ),
        Environment(
            system="aphrodite",
            needs_torch=True,
            requirements=_lines(
                "setuptools==80.10.2 setuptools-scm==10.3.4 wheel==0.48.0 packaging==26.3 jinja2==3.1.6"
            ),
            alone=("--no-deps", "--no-build-isolation", "--no-binary", "aphrodite-engine", "aphrodite-engine==0.10.0"),
            variables={"APHRODITE_TARGET_DEVICE": "empty", "APHRODITE_VERSION_OVERRIDE": "0.10.0"},
            why="it requires CUDA; three of its functions in torch are loaded from their files",
        ),
    )
}
"""By name: samplers that have a step which no system of `ENVIRONMENTS` has, and are held to that step alone."""


def install(environment: Environment) -> None:
    """Make the environment, unless it is there already.

    Raises:
        SystemExit: a command failed; the message names the peer.

    """
    wanted = repr(environment)
    stamp = environment.folder / "installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print(f"installing {environment.system} into {environment.folder.relative_to(ROOT)}: minutes", flush=True)
    if environment.why:
        print(f"  ({environment.why})", flush=True)
    shutil.rmtree(environment.folder, ignore_errors=True)
    for command in environment.commands():
        variables = {**os.environ, **environment.variables}
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_INSTALL_S, check=False, env=variables, cwd="/"
        )
        if done.returncode != 0:
            raise SystemExit(
                f"The peer {environment.system} cannot be installed, so nothing can be held against it: "
                f"{' '.join(command)} failed:\n{done.stdout[-1000:]}{done.stderr[-2000:]}"
            )
    stamp.write_text(wanted)


def _python() -> str:
    """Give the interpreter that this environment was made from: an environment of an environment finds no libpython."""
    return str(Path(sysconfig.get_config_var("BINDIR")) / f"python{sysconfig.get_python_version()}")


if __name__ == "__main__":
    every = ENVIRONMENTS | PARTS
    for name in sys.argv[1:] or every:
        install(every[name])
