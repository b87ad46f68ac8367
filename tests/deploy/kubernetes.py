"""What build/deploy's programs make of the folders of deploy/."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.support.tools import need

ROOT = Path(__file__).parents[2]
CHECKERS = ROOT / "build" / "deploy"
PROGRAMS = Path(__file__).parent / "programs"
CHART = ROOT / "deploy" / "helm" / "samplerd"

Objects = list[dict[str, Any]]


def _run(*arguments: object) -> tuple[Objects, list[str]]:
    command = [CHECKERS / "bin" / "python", PROGRAMS / "objects.py", *arguments]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return found["objects"], found["problems"] + [own for one in found["objects"] for own in _route_problems(one)]


def _route_problems(given: dict[str, Any]) -> list[str]:
    if given["kind"] != "GRPCRoute":
        return []
    # As text, so that its modules are found from where it runs.
    program = (PROGRAMS / "grpc_route.mjs").read_text(encoding="utf-8")
    done = subprocess.run(
        [need("node"), "--input-type=module", "--eval", program],
        cwd=CHECKERS,
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
    )
    return [done.stderr] if done.returncode else []


def kustomize(folder: Path) -> tuple[Objects, list[str]]:
    """The objects of a folder, and what is wrong with them."""
    return _run("kustomize", folder)


def helm(chart: Path = CHART, **values: Any) -> tuple[Objects, list[str]]:
    """The objects of a chart with these values, and what is wrong with them."""
    return _run("helm", chart, json.dumps(values))


def of_kind(objects: Objects, kind: str) -> dict[str, Any]:
    """The one object of a kind."""
    [found] = [own for own in objects if own["kind"] == kind]
    return found
