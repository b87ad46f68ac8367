"""The lowest grpcio and protobuf that the package declares are those that its stubs ask for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
STUBS = ROOT / "protos" / "gen" / "python" / "samplerd" / "v1"


def _floor(name: str) -> tuple[int, ...]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (found,) = [match for text in project["dependencies"] if (match := re.match(rf"{name}>=([\d.]+)", text))]
    return _version(found[1])


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in (*text.split("."), "0", "0")[:3])


def _written_by(file: str, pattern: str) -> tuple[int, ...]:
    (version,) = re.findall(pattern, (STUBS / file).read_text(encoding="utf-8"))
    return _version(version)


def test_protobuf() -> None:
    assert _floor("protobuf") == _written_by("sampler_pb2.py", r"# Protobuf Python Version: ([\d.]+)")


def test_grpcio() -> None:
    assert _floor("grpcio") == _written_by("sampler_pb2_grpc.py", r"GRPC_GENERATED_VERSION = '([\d.]+)'")
