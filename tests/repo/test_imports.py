"""Data and imports flow one way: the direction of docs/architecture.md, held by reading every import."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVER = ROOT / "server" / "samplerd_server"
CLIENT = ROOT / "client" / "python" / "samplerd_client"
RAY = ROOT / "server" / "samplerd_ray"

# Lower rooms never import higher ones. Rooms of equal rank may not import each other.
RANKS = {
    "__main__": 10,
    "envoy_child": 10,
    "precompile": 10,
    "app": 9,
    "transport": 8,
    "batching": 7,
    "engine": 6,
    "distributions": 5,
    "sampling": 5,
    "process": 4,
    "metrics": 3,
    "config": 2,
    "core": 1,
}
# The same within the transport: by which protocol a call comes is above what it asks for.
TRANSPORT_RANKS = {"http": 7, "envoy": 6, "grpcio": 5, "oip": 4, "doors": 4, "rpc": 3, "codec": 2}
TRANSPORT_RANKS |= {"page": 1, "shared_memory": 1}
# Third-party packages that only these places may import.
ONLY_IN = {
    "torch": {"engine", "sampling"},
    "numba": {"sampling"},
    "triton": {"sampling"},
    "grpc": {"transport"},
    "grpc_health": {"transport"},
    "grpc_reflection": {"transport"},
    "google": {"transport"},
    "prometheus_client": {"metrics", "process"},
    "opentelemetry": {"process"},
    "uvloop": {"__main__"},
    "pyvoy": {"transport"},
    "uvicorn": {"transport"},
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


def room(path: Path) -> str:
    return path.relative_to(SERVER).with_suffix("").parts[0]


FILES = sorted(path for path in SERVER.rglob("*.py") if path != SERVER / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SERVER)))
def test_imports_point_down(path: Path) -> None:
    own = room(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "samplerd_server" and len(parts) > 1 and parts[1] != own:
            assert RANKS[own] > RANKS[parts[1]], f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize(
    "path", sorted((SERVER / "transport").rglob("*/*.py")), ids=lambda path: str(path.relative_to(SERVER))
)
def test_imports_within_the_transport_point_down(path: Path) -> None:
    own = path.relative_to(SERVER / "transport").parts[0]
    for name in imports(path):
        parts = name.split(".")
        if parts[:2] == ["samplerd_server", "transport"] and len(parts) > 2 and parts[2] != own:
            assert TRANSPORT_RANKS[own] > TRANSPORT_RANKS[parts[2]], f"{path.relative_to(ROOT)} imports {name}"


def module_graph() -> dict[str, set[str]]:
    """Which module of the server imports which, at run time or for its types."""
    names = {
        path: ".".join(("samplerd_server", *path.relative_to(SERVER).with_suffix("").parts)).removesuffix(".__init__")
        for path in SERVER.rglob("*.py")
    }
    known = set(names.values())
    return {name: (imports(path) & known) - {name} for path, name in names.items()}


def arrows(folder: Path, package: tuple[str, ...]) -> set[tuple[str, str]]:
    """Which room imports which."""
    found: set[tuple[str, str]] = set()
    for path in folder.rglob("*.py"):
        if path != folder / "__init__.py":
            own = path.relative_to(folder).with_suffix("").parts[0]
            parts = (tuple(name.split(".")) for name in imports(path))
            found |= {(own, name[len(package)]) for name in parts if name[: len(package)] == package < name}
    return {(room, other) for room, other in found if room != other}


@pytest.mark.parametrize(
    ("folder", "package", "ranks", "max_rooms", "max_arrows"),
    [
        (SERVER, ("samplerd_server",), RANKS, 14, 46),
        (SERVER / "transport", ("samplerd_server", "transport"), TRANSPORT_RANKS, 9, 14),
    ],
    ids=["server", "transport"],
)
def test_rooms_and_arrows_stay_few(
    folder: Path, package: tuple[str, ...], ranks: dict[str, int], max_rooms: int, max_arrows: int
) -> None:
    rooms = {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert rooms - {"__init__"} == set(ranks)
    assert len(ranks) <= max_rooms
    assert len(arrows(folder, package)) <= max_arrows


@pytest.mark.parametrize(("title", "ranks"), [("rooms", RANKS), ("rooms of transport", TRANSPORT_RANKS)])
def test_the_diagram_of_the_architecture_is_this_direction(title: str, ranks: dict[str, int]) -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    diagram = page.partition(f"<!-- {title} -->")[2].partition(f"<!-- end of {title} -->")[0]
    lines = [line.split("│") for line in diagram.splitlines() if "│" in line]
    assert {name: int(rank) for rank, names, _ in lines for name in names.split()} == ranks


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph, done = module_graph(), set[str]()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join((*above[above.index(name) :], name))
        if name not in done:
            for below in sorted(graph[name]):
                visit(below, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SERVER)))
def test_third_parties_stay_in_their_place(path: Path) -> None:
    own = room(path)
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
    allowed = ("config", "process/workers", "transport/envoy/supervisor.py")
    is_allowed = str(path.relative_to(SERVER)).startswith(allowed)
    assert is_allowed or ("os.environ" not in text and "getenv" not in text)


def test_the_client_needs_neither_server_nor_torch() -> None:
    for path in CLIENT.rglob("*.py"):
        for name in imports(path):
            # The reference replays draws; test_replay_command.py proves that it brings neither torch nor numba.
            is_reference = path == CLIENT / "samplerctl" / "reference.py" and name.startswith("samplerd_server.")
            # Who has an engine has torch; test_lazy_imports.py proves that nobody else meets these modules.
            is_of_an_engine = path.parent == CLIENT / "integrations" and name.split(".")[0] == "torch"
            unwanted = {"samplerd_server", "torch", "numba", "prometheus_client"}
            assert is_reference or is_of_an_engine or name.split(".")[0] not in unwanted, path


def test_ray_is_beside_the_server_and_in_one_module() -> None:
    for path in RAY.rglob("*.py"):
        names = {name.split(".")[0] for name in imports(path)}
        assert not names & {"samplerd_server", "torch", "numba", "prometheus_client"}, path
        assert path.name == "cluster.py" or "ray" not in names, path
    for path in (*SERVER.rglob("*.py"), *CLIENT.rglob("*.py")):
        assert not {name.split(".")[0] for name in imports(path)} & {"samplerd_ray", "ray"}, path


def test_no_module_has_outgrown_its_noun() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for root in (SERVER, CLIENT, RAY)
        for path in root.rglob("*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 300
    }
    assert not long
