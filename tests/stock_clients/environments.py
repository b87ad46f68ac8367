"""The environments of the stock clients: one below build/stock-clients for each; run as a module, it makes them.

Rule 1: every client has an environment of its own, with the versions that are named here, and nothing of samplerd's in
it: what it imports is what its users import. Rule 2: a client that cannot be installed ends the command with the
sentence that says which and why.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ENVIRONMENTS", "Environment", "install"]

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "stock-clients"
PROGRAMS = Path(__file__).parent / "programs"
PROTOS = ROOT / "protos"
_INSTALL_S = 1_800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """How one client is installed, and what starts a program of it."""

    name: str
    steps: tuple[tuple[str, ...], ...]
    """Commands that install it, in order, run in its folder, which is new and empty."""
    interpreter: tuple[str, ...]
    """What a program's path is appended to; the first word is below the folder, or on the PATH."""

    @property
    def folder(self) -> Path:
        """Where it is installed."""
        return FOLDER / self.name

    def command(self, program: str, *arguments: str) -> list[str]:
        """Give the command that runs one of `programs/` in this environment."""
        first, *others = self.interpreter
        within = self.folder / first
        return [str(within) if within.exists() else first, *others, str(PROGRAMS / program), *arguments]


def python(name: str, *requirements: str, stubs: tuple[str, ...] = ()) -> Environment:
    """Describe an environment of Python with these packages, each pinned, and stubs by protoc's options `stubs`."""
    interpreter = Path(sysconfig.get_config_var("BINDIR")) / f"python{sysconfig.get_python_version()}"
    pip = ("venv/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    return Environment(
        name=name,
        steps=((str(interpreter), "-m", "venv", "venv"), (*pip, *requirements), *_generate(stubs)),
        # The stubs are imported as `gen`, from the folder that programs run in.
        interpreter=("env", "PYTHONPATH=.", "venv/bin/python", "-W", "ignore")
        if stubs
        else ("venv/bin/python", "-W", "ignore"),
    )


def node(name: str, *packages: str, stubs: tuple[str, ...] = ()) -> Environment:
    """Describe an environment of Node with these packages, each pinned, and stubs by protoc's options `stubs`."""
    npm = ("npm", "install", "--prefix", ".", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
    return Environment(
        name=name,
        steps=((*npm, *packages), *_generate(stubs)),
        interpreter=("env", "NODE_PATH=node_modules", "node"),
    )


def _generate(stubs: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """Generate stubs of the contract into the folder gen."""
    if not stubs:
        return ()
    protoc = (sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}", f"-I{PROTOS / 'third_party'}")
    files = ("samplerd/v1/sampler.proto", "google/rpc/status.proto", "google/rpc/error_details.proto")
    within = ("sh", "-c", 'PATH="$PWD/venv/bin:$PWD/node_modules/.bin:$PATH" exec "$@"', "sh")  # finds the plugins
    return ("mkdir", "gen"), (*within, *protoc, *stubs, *files)


_ES = ("--es_out=gen", "--es_opt=target=js,js_import_style=legacy_commonjs")
ENVIRONMENTS: dict[str, Environment] = {
    own.name: own
    for own in (
        # Not clients: what makes rows. samplerd's client reads them there, so it has what that needs.
        python(
            "arrays",
            *("jax==0.10.2", "ml_dtypes==0.6.0", "onnxruntime==1.32.0", "pyarrow==26.0.1", "tensorflow-cpu==2.21.0"),
            *("googleapis-common-protos==1.76.0", "grpcio==1.85.3", "numpy==2.4.6", "protobuf==7.36.2"),
        ),
        # Not a client either: an engine, whose `generate` has samplerd draw. torch is the project's own.
        python(
            "transformers",
            *("torch==2.13.0", "transformers==5.24.0", "numpy==2.4.6"),
            *("googleapis-common-protos==1.76.0", "grpcio==1.85.3", "protobuf==7.36.2"),
        ),
        python("tritonclient", "tritonclient[grpc,http]==2.73.0", "numpy==2.4.6"),
        python("kserve", "kserve==0.21.0"),
        python(
            "connect-python",
            *("connectrpc==0.13.0", "protobuf-py==0.7.0", "pyqwest==0.12.0"),
            *("protoc-gen-connectrpc==0.13.0", "protoc-gen-py==0.7.0"),
            stubs=("--py_out=gen", "--connectrpc_out=gen"),
        ),
        python(
            "betterproto",
            *("betterproto2[grpclib]==0.10.0", "betterproto2-compiler==0.10.1", "grpclib==0.4.9"),
            stubs=("--python_betterproto2_out=gen", "--python_betterproto2_opt=client_generation=async"),
        ),
        node(
            "connect-node",
            *("@connectrpc/connect@2.3.0", "@connectrpc/connect-node@2.3.0"),
            *("@bufbuild/protobuf@2.17.0", "@bufbuild/protoc-gen-es@2.17.0"),
            stubs=_ES,
        ),
        node(
            "grpc-web",
            *("grpc-web@2.1.1", "xhr2@0.2.1", "@bufbuild/protobuf@2.17.0", "@bufbuild/protoc-gen-es@2.17.0"),
            stubs=_ES,
        ),
        node("nice-grpc", "nice-grpc@2.1.18", "@grpc/grpc-js@1.14.7", "@grpc/proto-loader@0.8.1"),
    )
}
"""By name: every client that is run."""


def install(environment: Environment) -> None:
    """Make the environment, unless it is there already.

    Raises:
        SystemExit: a command failed; the message names the client.

    """
    wanted = repr(environment)
    stamp = environment.folder / "installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print(f"installing {environment.name} into {environment.folder.relative_to(ROOT)}", flush=True)
    shutil.rmtree(environment.folder, ignore_errors=True)
    environment.folder.mkdir(parents=True)
    for first, *others in environment.steps:
        within = environment.folder / first
        command = [str(within) if within.exists() else first, *others]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_INSTALL_S, check=False, cwd=environment.folder
        )
        if done.returncode != 0:
            raise SystemExit(
                f"The client {environment.name} cannot be installed, so it cannot be run against samplerd: "
                f"{' '.join(command)} failed:\n{done.stdout[-1000:]}{done.stderr[-2000:]}"
            )
    stamp.write_text(wanted)


if __name__ == "__main__":
    for own_name in sys.argv[1:] or ENVIRONMENTS:
        install(ENVIRONMENTS[own_name])
