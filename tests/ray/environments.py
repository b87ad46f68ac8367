"""Ray in an environment of its own below build/ray; run as a module, it installs it.

Ray's Python runs `samplerd_ray`, out of this checkout; the samplerds that it starts run in .venv, as on a cluster whose
operator gives --samplerd.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

__all__ = ["FOLDER", "PATHS", "PYTHON", "ROOT"]

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "ray"
PYTHON = FOLDER / "bin" / "python"
PATHS = [ROOT / "server", ROOT / "client" / "python", ROOT / "protos" / "gen" / "python", ROOT]
"""Where the packages of this checkout are."""


def main() -> None:
    """Install the extra `ray` and the base install, anew."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["ray"]]
    shutil.rmtree(FOLDER, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(FOLDER)], check=True)
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--constraint", str(ROOT / "tests" / "ray" / "constraints.txt"), *wanted], check=True)


if __name__ == "__main__":
    main()
