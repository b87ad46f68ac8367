"""The lowest and the highest versions of what the package needs, below build/ranges; run as a module, it installs them.

At each end of the ranges there are two folders of packages: `client` holds the wheel and all that the base install
brings; `server` holds what the server speaks gRPC with. Tests run with one of them before the packages of .venv, which
lends the rest: pytest, torch and numba, whose own range is narrow and is tried by hand. `beside` is an environment of
its own, with the wheel and what its users have installed already.

Rule 1: the lowest versions are those that pyproject.toml names. Rule 2: the highest are what pip takes today, so that a
release that breaks us is seen.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from packaging.requirements import Requirement

__all__ = ["BESIDE", "ENDS", "FOLDER", "ROOT", "floors", "packages"]

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "ranges"
BESIDE = FOLDER / "beside" / "bin" / "python"
NEIGHBOURS = ("tritonclient[grpc]==2.73.0", "kserve==0.21.0")
"""Clients of the Open Inference Protocol, which want a protobuf below 7."""
ENDS = ("lowest", "highest")
_NOT_HERE = {"numba", "torch"}


def packages(end: str, of: str) -> Path:
    """Return the folder of packages at one end, of the "client" or the "server"."""
    return FOLDER / end / of


def floors(of: str) -> dict[str, str]:
    """Return the lowest version of each package that the "client" or the "server" needs, by its name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    texts = [*project["dependencies"], *(project["optional-dependencies"]["server"] if of == "server" else ())]
    needed = [own for own in map(Requirement, texts) if own.marker is None or own.marker.evaluate()]
    return {
        own.name: next(bound.version for bound in own.specifier if bound.operator == ">=")
        for own in needed
        if own.name not in _NOT_HERE and (of == "client" or own.name != "numpy")
    }


def _pip(*arguments: object, python: Path | str = sys.executable) -> None:
    """Run pip; what it says is shown only if it fails: it warns that --target differs from .venv, as it should."""
    command = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"pip {' '.join(map(str, arguments))} ended with {done.returncode}:\n{done.stderr}")


def _install(end: str, of: str, wheel: Path) -> None:
    lowest = {name: f"{name}=={version}" for name, version in floors(of).items()}
    bounds = FOLDER / f"{end}-{of}.txt"
    bounds.write_text("".join(f"{text}\n" for text in lowest.values()) if end == "lowest" else "")
    wanted = [wheel] if of == "client" else list(lowest)
    _pip("install", "--no-compile", "--target", packages(end, of), "--constraint", bounds, *wanted)


def _install_beside(wheel: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(FOLDER / "beside")], check=True)
    _pip("install", "--no-compile", wheel, *NEIGHBOURS, python=BESIDE)


def main() -> None:
    """Install everything, anew."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    _pip("wheel", "--no-deps", "--wheel-dir", FOLDER, ROOT)
    (wheel,) = FOLDER.glob("*.whl")
    with ThreadPoolExecutor() as pool:
        jobs = [pool.submit(_install, end, of, wheel) for end in ENDS for of in ("client", "server")]
        jobs.append(pool.submit(_install_beside, wheel))
    for job in jobs:
        job.result()


if __name__ == "__main__":
    main()
