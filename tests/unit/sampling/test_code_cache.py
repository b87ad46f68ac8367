"""The cache of machine code: an edit recompiles what it changes, and nothing else does."""

import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import numba
import numpy as np
import pytest
from numba.core.registry import CPUDispatcher

from samplerd_server.sampling import cdf_index
from samplerd_server.sampling import kernels as sampling_kernels
from samplerd_server.sampling.cdf_index.builder import CdfIndexBuilder
from samplerd_server.sampling.kernels import NumbaSampler
from samplerd_server.sampling.kernels.code_cache import KernelCache
from samplerd_server.sampling.kernels.code_digest import digest
from samplerd_server.sampling.kernels.compile import jit, kernel
from samplerd_server.sampling.kernels.shared_parts import Symbol, all_parts, load
from samplerd_server.transport import codec
from samplerd_server.transport.codec.compiled import compiled_scan, compiled_varints

_SHARED = """
from samplerd_server.sampling.kernels.compile import jit

STEP = 1


@jit
def shared(x):
    '''Add.'''
    return x + STEP


@jit
def lonely(x):
    return x * 2
"""
_FIRST = """
from samplerd_server.sampling.kernels.compile import kernel
from tree.shared import lonely, shared


@kernel
def first(x):
    return lonely(shared(x))
"""
_SECOND = """
from samplerd_server.sampling.kernels.compile import kernel
from tree.shared import shared


@kernel
def second(x):
    return shared(x)
"""
_USE = """
from tree.first import first
from tree.second import second

values = first(5), second(5)
names = {"first": first, "second": second}
print(values, *(name for name, own in names.items() if sum(own.stats.cache_misses.values())))
"""


class Tree:
    """Two kernels that share a part, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "tree").mkdir(parents=True)
        for name, text in (("shared", _SHARED), ("first", _FIRST), ("second", _SECOND)):
            (folder / "tree" / f"{name}.py").write_text(text)

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.folder / "tree" / f"{name}.py"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    def run(self, **environment: str) -> str:
        """Call both kernels in a process of their own; returns their values and the names of those compiled."""
        paths = os.pathsep.join([str(self.folder), *sys.path])
        own = {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1", **environment}
        if not environment:
            own.pop("NUMBA_CACHE_DIR", None)
        done = subprocess.run([sys.executable, "-c", _USE], env=own, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def files(self, kernel: str) -> set[str]:
        return {path.name for path in (self.folder / "tree" / "__pycache__").glob(f"{kernel}.*.nb[ic]")}


def test_an_edit_recompiles_the_kernels_that_it_changes(tmp_path):
    tree = Tree(tmp_path / "here")
    assert tree.run() == "(12, 6) first second"
    assert tree.run() == "(12, 6)"
    tree.edit("shared", "x * 2", "x * 3")  # a part of one kernel, in a file that both import
    assert tree.run() == "(18, 6) first"
    tree.edit("second", "return shared(x)", "return shared(x) - 1")
    assert tree.run() == "(18, 5) second"
    tree.edit("shared", "STEP = 1", "STEP = 2")  # a constant that a part of both names
    assert tree.run() == "(21, 6) first second"


def test_comments_and_times_recompile_nothing(tmp_path):
    tree = Tree(tmp_path / "here")
    assert tree.run() == "(12, 6) first second"
    tree.edit("shared", "'''Add.'''", "'''Add a step.'''")
    tree.edit("shared", "\nSTEP", "\n# Why one.\n\n\nSTEP")
    for path in tree.folder.rglob("*.py"):
        os.utime(path, (2_000_000_000, 2_000_000_000))
    assert tree.run() == "(12, 6)"


def test_another_checkout_uses_the_same_shared_cache(tmp_path):
    one, other = Tree(tmp_path / "one"), Tree(tmp_path / "other")
    shared = str(tmp_path / "cache")
    assert one.run(NUMBA_CACHE_DIR=shared) == "(12, 6) first second"
    assert other.run(NUMBA_CACHE_DIR=shared) == "(12, 6)"
    other.edit("first", "lonely(shared(x))", "shared(lonely(x))")
    assert other.run(NUMBA_CACHE_DIR=shared) == "(11, 6) first"
    assert one.run(NUMBA_CACHE_DIR=shared) == "(12, 6)"  # it was not displaced


def test_old_versions_are_forgotten(tmp_path):
    tree = Tree(tmp_path / "here")
    tree.run()
    folder = tree.folder / "tree" / "__pycache__"
    tag = next(iter(tree.files("first"))).split(".")[2]
    for name in (f"first.first-7.{tag}.nbi", f"first.first-7.{tag}.1.nbc"):  # as numba names them
        (folder / name).touch()
    untouched = folder / f"first.first-7.{tag}9.nbi"  # of another Python
    untouched.touch()
    indices = [next(name for name in tree.files("first") if name.endswith("i") and name != untouched.name)]
    for step in range(5):
        before = tree.files("first")
        tree.edit("first", "    return", f"    x += {step}\n    return")
        tree.run()
        indices += [name for name in tree.files("first") - before if name.endswith("i")]
    kept = tree.files("first") - {untouched.name}
    assert {name for name in kept if name.endswith("i")} == {*indices[-4:]}
    assert len(kept) == 8
    assert untouched.exists()


def test_a_folder_that_vanishes_is_made_again(tmp_path):
    tree = Tree(tmp_path / "here")
    tree.run()
    shutil.rmtree(tree.folder / "tree" / "__pycache__")
    assert tree.run() == "(12, 6) first second"


def test_what_cannot_be_told_apart_is_refused():
    strange = object()

    @jit
    def part(x):
        return x if strange else -x

    @kernel
    def own(x):
        return part(x)

    with pytest.raises(TypeError, match="changes cannot be told"):
        digest(own)


def test_constants_count_by_value_and_type():
    def made(constant):
        @kernel
        def own(x):
            return x + constant

        return digest(own)

    values = (1, 1.0, np.float32(1), np.float64(1), np.array([1.0]), np.array([1.0, 0.0]), (1, 2), (2, 1))
    assert len({made(value) for value in values}) == len(values)
    assert made(np.array([1.0])) == made(np.array([1.0]))


def test_warm_up_compiles_every_kernel():
    sampler = NumbaSampler(1)
    sampler.warm_up()
    sampler.close()
    CdfIndexBuilder().warm_up()
    compiled_scan()
    compiled_varints()
    rooms = (sampling_kernels, cdf_index, codec)
    modules = [import_module(f"{room.__name__}.{own.name}") for room in rooms for own in iter_modules(room.__path__)]
    own = [value for module in modules for value in vars(module).values() if isinstance(value, CPUDispatcher)]
    kernels = {value.py_func.__name__: value for value in own if isinstance(value._cache, KernelCache)}
    assert {"draw_few", "draw_plain", "draw_full", "verify_rows", "keep_row", "_scan"} <= kernels.keys()
    assert [name for name, value in kernels.items() if not value.overloads] == []
    assert {len(digest(value)) for value in kernels.values()} == {64}


def test_every_shared_part_is_compiled_once():
    sampler = NumbaSampler(1)
    sampler.warm_up()
    sampler.close()
    CdfIndexBuilder().warm_up()
    own = [part for part in all_parts() if part.py_func.__module__.startswith("samplerd_server.")]
    assert {part.py_func.__name__: len(part.overloads) for part in own} == {
        "draw_view_apart": 1,
        "take_steps": 1,
        "_change": 1,
        "prepare_shaped": 1,
    }


_APART = """
import numpy as np
from samplerd_server.sampling.kernels.compile import jit, kernel, shared
from samplerd_server.sampling.kernels.references import dereference, reference


@jit
def below(x):
    return x * 10


@shared
def inner(pair_at):
    pair = dereference(pair_at)
    return below(pair[0]) + pair[1]


@shared
def outer(x):
    return inner(reference((x, 1.5)))


@kernel
def first(x):
    return outer(x) + below(x)


@kernel
def second(x):
    return inner(reference((x, 0.25)))


print(first(5), second(5), *(own.py_func.__name__ for own in (inner, outer, first, second) if own.stats.cache_misses))
"""


class Apart:
    """Two kernels and the shared parts that they call, run in a process of their own each time."""

    def __init__(self, folder: Path) -> None:
        self.module = folder / "apart.py"
        self.module.write_text(_APART)
        self.cache = folder / "__pycache__"

    def run(self) -> str:
        own = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
        own["PYTHONPATH"] = os.pathsep.join([str(self.module.parent), *sys.path])
        command = [sys.executable, "-B", "-c", "import apart"]
        done = subprocess.run(command, env=own, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def remove(self, name: str) -> None:
        for path in self.cache.glob(f"apart.{name}-*"):
            path.unlink()


def test_shared_parts_are_compiled_once_and_called_from_the_cache(tmp_path):
    own = Apart(tmp_path)
    assert own.run() == "101.5 50.25 inner outer first second"
    assert own.run() == "101.5 50.25"
    for name in ("second", "outer"):  # what is left in the cache calls it, or is called by it
        own.remove(name)
        assert own.run() == f"101.5 50.25 {name}"
    own.module.write_text(_APART.replace("x * 10", "x * 20"))
    assert own.run() == "201.5 100.25 inner outer first second"
    own.module.write_text(_APART)
    assert own.run() == "101.5 50.25"


def test_a_kernel_whose_shared_part_is_another_version_is_not_loaded():
    CdfIndexBuilder().warm_up()
    part = next(own for own in all_parts() if own.py_func.__name__ == "take_steps")
    [arguments] = part.overloads
    name = f"{part.py_func.__module__}.{part.py_func.__qualname__}"
    for symbol in (Symbol(name, arguments, "an older version"), Symbol("tests.gone", (), "of no function")):
        with pytest.raises(LookupError, match=symbol.part):
            load((symbol,))


def test_a_part_is_compiled_for_types_not_for_constants():
    @jit
    def part(x, is_double):
        return x * 2 if is_double else x

    @kernel
    def own(x):
        return part(x, True) + part(x, False) + part(1, x > 1)

    assert own(5) == 10 + 5 + 2
    assert len(part.overloads) == 1


def test_a_part_can_be_called_by_numba_itself():
    @jit
    def inner(x):
        return x + 1

    @jit
    def part(x):
        return inner(inner(x))

    @numba.njit
    def own(x):
        return part(x)

    assert own(1) == 3
