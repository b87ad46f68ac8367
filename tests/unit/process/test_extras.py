"""The server without the packages of its extra."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from samplerd_server import __main__ as daemon
from samplerd_server.process import extras

ROOT = Path(__file__).parents[3]
WITHOUT = """
import sys
sys.path[:] = {path!r}
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {hidden!r}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)
sys.meta_path.insert(0, Hidden())
import importlib.util
importlib.util.find_spec = lambda name, own=importlib.util.find_spec: None if name in {hidden!r} else own(name)
{start}
"""
START = "from samplerd_server.__main__ import main; sys.exit(main(sys.argv[1:]))"


def run(hidden: set[str], *arguments: str, start: str = START) -> subprocess.CompletedProcess[str]:
    program = WITHOUT.format(path=sys.path, hidden=hidden, start=start)
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("arguments", [(), ("--workers", "2"), ("--transport", "envoy")])
def test_one_line_says_what_to_install(arguments: tuple[str, ...]) -> None:
    done = run(set(extras._PACKAGES), *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(
        r"samplerd: the server needs pip install 'samplerd\[server\]': not installed: .*\n", done.stderr
    )


def test_it_names_only_what_is_missing() -> None:
    done = run({"numba"})
    assert done.stderr == "samplerd: the server needs pip install 'samplerd[server]': not installed: numba\n"


def test_the_step_that_compiles_says_it_too() -> None:
    done = run(set(extras._PACKAGES), start="import samplerd_server.precompile")
    assert done.returncode == 1
    assert done.stderr.startswith("samplerd_server.precompile: it needs pip install 'samplerd[server]'")
    assert done.stderr.count("\n") == 1


def test_compiling_for_gpus_says_what_it_needs() -> None:
    start = "from samplerd_server import precompile; precompile._compile_for_gpus()"
    done = run({"triton"}, start=start)
    assert done.returncode == 1
    assert done.stderr.startswith("samplerd_server.precompile: --cuda needs pip install 'samplerd[cuda]'")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("argument", ["--help", "--version", "--check-config"])
def test_what_needs_no_server_works(argument: str) -> None:
    assert run(set(extras._PACKAGES), argument).returncode == 0


def test_nothing_is_missing_here(monkeypatch: pytest.MonkeyPatch) -> None:
    assert extras.complaint_of_missing_packages() is None
    monkeypatch.setattr(daemon, "complaint_of_missing_packages", lambda **_: "none of it")
    monkeypatch.setattr(daemon, "_run", lambda _config: pytest.fail("it was run"))
    assert daemon.main([]) == 2


def test_every_package_of_the_extra_is_looked_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    base, names = (
        {re.split(r"[<>=;!]", text)[0] for text in texts}
        for texts in (project["dependencies"], project["optional-dependencies"]["server"])
    )
    modules = {"grpcio-health-checking": "grpc_health", "grpcio-reflection": "grpc_reflection"}
    optional = {"uvloop"}
    assert {modules.get(name, name.replace("-", "_")) for name in names - base - optional} == set(extras._PACKAGES)
