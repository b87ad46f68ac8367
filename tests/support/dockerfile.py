"""The image's recipe, read."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """Every instruction with its arguments, comments dropped and continued lines joined."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", "", "\n".join(lines))
    found = []
    for line in joined.splitlines():
        if line.strip():
            name, _, arguments = line.strip().partition(" ")
            found.append((name, arguments.strip()))
    return found


def stages() -> dict[str, list[tuple[str, str]]]:
    """The instructions of each stage by its name, in their order."""
    found: dict[str, list[tuple[str, str]]] = {}
    for name, given in instructions():
        if name == "FROM":
            found[given.rpartition(" AS ")[2]] = []
        if found:
            found[list(found)[-1]].append((name, given))
    return found


def arguments(name: str, stage: str) -> list[str]:
    """Arguments of all instructions of this name in a stage."""
    return [given for instruction, given in stages()[stage] if instruction == name]


def environment(stage: str) -> dict[str, str]:
    """The variables that a stage sets."""
    return dict(re.findall(r"(\w+)=(\S+)", " ".join(arguments("ENV", stage))))


def health_probe() -> str:
    """The Python text of the health check."""
    (check,) = arguments("HEALTHCHECK", "runtime")
    command = json.loads(check[check.index("CMD ") + 4 :])
    assert command[:2] == ["python", "-c"]
    return str(command[2])
