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


def python(name: str, *requirements: str) -> Environment:
    """Describe an environment of Python with these packages, each pinned."""
    interpreter = Path(sysconfig.get_config_var("BINDIR")) / f"python{sysconfig.get_python_version()}"
    pip = ("venv/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    return Environment(
        name=name,
        steps=((str(interpreter), "-m", "venv", "venv"), (*pip, *requirements)),
        interpreter=("venv/bin/python", "-W", "ignore"),
    )


ENVIRONMENTS: dict[str, Environment] = {
    own.name: own
    for own in (
        # Not clients: what makes rows. samplerd's client reads them there, so it has what that needs.
        python(
            "arrays",
            *("jax==0.10.2", "ml_dtypes==0.6.0", "onnxruntime==1.32.0", "pyarrow==26.0.1", "tensorflow-cpu==2.21.0"),
            *("googleapis-common-protos==1.76.0", "grpcio==1.85.3", "numpy==2.4.6", "protobuf==7.36.2"),
        ),
        python("tritonclient", "tritonclient[grpc,http]==2.73.0", "numpy==2.4.6"),
        python("kserve", "kserve==0.21.0"),
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
