"""Data and imports flow one way: the direction of docs/architecture.md, held by reading every import."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVER = ROOT / "server" / "samplerd_server"
CLIENT = ROOT / "client" / "python" / "samplerd_client"

# Lower layers never import higher ones. Layers of equal rank may not import each other.
RANKS = {
    "__main__": 10,
    "precompile": 9,
    "envoy_child": 9,
    "envoy": 9,
    "envoy_config": 8,
    "workers": 9,
    "app": 8,
    "transport": 7,
    "admission": 6,
    "batching": 5,
    "distributions": 4,
    "engine": 4,
    "sampling": 3,
    "cli": 3,
    "snapshot": 2,
    "private": 2,
    "life": 2,
    "settings": 1,
    "security": 1,
    "metrics": 1,
    "counters": 0,
    "allocator": 0,
    "log": 1,
    "config": 0,
    "errors": 0,
    "request": 0,
    "buffers": 1,
    "units": -1,
}
# Third-party packages that only these places may import.
ONLY_IN = {
    "torch": {"engine", "sampling"},
    "numba": {"sampling"},
    "grpc": {"transport"},
    "grpc_health": {"transport"},
    "grpc_reflection": {"transport"},
    "google": {"transport"},
    "prometheus_client": {"metrics", "counters", "workers"},
    "uvloop": {"__main__"},
    "pyvoy": {"envoy", "envoy_config"},
}
# Nobody outside the transport knows the stubs.
STUBS_IN = {"transport"}


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return names


def layer(path: Path) -> str:
    return path.relative_to(SERVER).with_suffix("").parts[0]


FILES = sorted(path for path in SERVER.rglob("*.py") if path != SERVER / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SERVER)))
def test_imports_point_down(path: Path) -> None:
    own = layer(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "samplerd_server" and len(parts) > 1 and parts[1] != own:
            assert RANKS[own] > RANKS[parts[1]], f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SERVER)))
def test_third_parties_stay_in_their_place(path: Path) -> None:
    own = layer(path)
    for name in imports(path):
        top = name.split(".")[0]
        if top in ONLY_IN:
            assert own in ONLY_IN[top], f"{path.relative_to(ROOT)} imports {name}"
        if name.startswith(("samplerd.v1", "samplerd.oip")):
            assert own in STUBS_IN, f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SERVER)))
def test_only_config_reads_the_environment(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    # The supervisors hand their own environment on, without reading a setting from it.
    assert layer(path) in {"config", "envoy", "workers"} or ("os.environ" not in text and "getenv" not in text)


def test_the_client_needs_neither_server_nor_torch() -> None:
    for path in CLIENT.rglob("*.py"):
        for name in imports(path):
            assert name.split(".")[0] not in {"samplerd_server", "torch", "numba", "prometheus_client"}, path


def test_no_module_has_outgrown_its_noun() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for root in (SERVER, CLIENT)
        for path in root.rglob("*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 300
    }
    assert long.keys() <= {"server/samplerd_server/config.py", "server/samplerd_server/request.py"}, long
