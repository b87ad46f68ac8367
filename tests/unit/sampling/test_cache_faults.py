"""The cache of machine code when something is wrong with it: every start goes on, and says so in one line."""

from __future__ import annotations

import os.path
import shutil
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from typing import TYPE_CHECKING, Any

import pytest
from numba.core import config

from samplerd_server.sampling.kernels import code_cache
from samplerd_server.sampling.kernels.compile import ENTRY_POINTS
from tests.support.rights import obeying_permissions, writing_nothing

if TYPE_CHECKING:
    from pathlib import Path

_KERNELS = """
from samplerd_server.sampling.kernels.compile import kernel


@kernel
def double(x):
    return x * 2
"""


class Installed:
    """A module with a small kernel, in a folder of its own."""

    def __init__(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        self.folder = folder
        self.cache = folder / "__pycache__"
        self.module = folder / "kernels.py"
        self._caplog = caplog
        folder.mkdir()
        self.module.write_text(_KERNELS)

    def start(self) -> Any:
        """Give the kernel as a new process has it: nothing is loaded, nothing was reported."""
        spec = spec_from_file_location("kernels", self.module)
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        # Not through the loader, which would write bytecode.
        exec(compile(self.module.read_text(), self.module, "exec"), module.__dict__)
        code_cache._reported.clear()
        self._caplog.clear()
        return ENTRY_POINTS.pop()

    def use(self) -> tuple[int, str, list[str]]:
        """Call the kernel; returns its value, whether it was compiled, and the warnings."""
        kernel = self.start()
        value = kernel(21)
        how = "compiled" if sum(kernel.stats.cache_misses.values()) else "loaded"
        return value, how, [own.getMessage() for own in self._caplog.records if own.levelname == "WARNING"]

    def file(self, ending: str) -> Path:
        [path] = self.cache.glob(f"kernels.double-*.{ending}")
        return path


@pytest.fixture
def installed(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(config, "CACHE_DIR", "")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    own = Installed(tmp_path / "installed", caplog)
    yield own
    for path in (own.folder, *own.folder.rglob("*")):
        path.chmod(0o755)


@pytest.fixture
def shipped(installed):
    """With a complete cache."""
    assert installed.use() == (42, "compiled", [])
    assert installed.use() == (42, "loaded", [])
    return installed


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _replace(path: Path) -> None:
    path.write_bytes(b'{"format": "of another program"}')


@pytest.mark.parametrize(
    ("ending", "damage"),
    [(ending, damage) for ending in ("nbi", "nbc") for damage in (_truncate, _empty, _replace)]
    + [("nbc", _flip_a_bit)],
)
def test_damaged_files_are_replaced(shipped, ending, damage):
    damage(shipped.file(ending))
    value, how, [line] = shipped.use()
    assert (value, how) == (42, "compiled")
    assert line.startswith(f"damaged files in a cache of kernels, which are compiled again: {shipped.cache} (")
    assert shipped.use() == (42, "loaded", [])


def test_machine_code_of_another_version_is_not_run(shipped):
    old = shipped.file("nbc")
    code = old.read_bytes()
    shipped.module.write_text(_KERNELS.replace("x * 2", "x * 3"))
    assert shipped.use() == (63, "compiled", [])
    [new] = {*shipped.cache.glob("*.nbc")} - {old}
    new.write_bytes(code)
    value, how, [line] = shipped.use()
    assert (value, how) == (63, "compiled")
    assert "is not what was saved" in line


def test_a_folder_that_can_only_be_read_is_read(shipped, monkeypatch):
    shipped.cache.chmod(0o555)
    with obeying_permissions():
        assert shipped.use() == (42, "loaded", [])
        monkeypatch.setenv("HOME", "/dev/null")
        assert shipped.use() == (42, "loaded", [])


def test_a_folder_that_cannot_be_read_is_passed_over(shipped):
    shipped.file("nbi").chmod(0)
    shipped.cache.chmod(0o555)
    said = f"cannot read a cache of kernels, which are compiled again: {shipped.cache} (Permission denied)"
    with obeying_permissions():
        assert shipped.use() == (42, "compiled", [said])
        assert shipped.use() == (42, "loaded", [said])  # from the user's own folder


def test_a_damaged_folder_that_can_only_be_read_is_passed_over(shipped):
    _truncate(shipped.file("nbc"))
    shipped.cache.chmod(0o555)
    with obeying_permissions():
        assert shipped.use()[:2] == (42, "compiled")
        assert shipped.use()[:2] == (42, "loaded")


def test_the_folder_that_is_asked_for_may_be_read_only_and_empty(shipped, tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir(mode=0o555)
    monkeypatch.setattr(config, "CACHE_DIR", str(other))
    with obeying_permissions():
        assert shipped.use() == (42, "loaded", [])
        shutil.rmtree(shipped.cache)
        assert shipped.use() == (42, "compiled", [])
        assert shipped.use() == (42, "loaded", [])


def test_where_nothing_can_be_written_every_start_compiles(installed, monkeypatch):
    monkeypatch.setenv("HOME", "/dev/null")
    installed.folder.chmod(0o555)
    with obeying_permissions():
        for _ in range(2):
            value, how, [line] = installed.use()
            assert (value, how) == (42, "compiled")
            assert line.startswith("compiled kernels cannot be saved, so every start compiles them; the last folder")
    assert not installed.cache.exists()


def test_a_user_without_a_home_gets_no_folder_of_that_name(installed, monkeypatch):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # what it gives a user that the system does not know
    monkeypatch.chdir(installed.folder)
    shutil.copytree(installed.folder, installed.folder / "read")
    installed.module = installed.folder / "read" / "kernels.py"
    installed.module.parent.chmod(0o555)
    with obeying_permissions():
        value, how, [line] = installed.use()
    assert (value, how) == (42, "compiled")
    assert line.endswith("(Permission denied)")
    assert {path.name for path in installed.folder.iterdir()} == {"kernels.py", "read"}


def test_a_full_disk_stops_nothing(installed):
    with writing_nothing():
        value, how, [line] = installed.use()
    assert (value, how) == (42, "compiled")
    assert line.startswith("compiled kernels cannot be saved")
    assert line.endswith("(File too large)")
    assert [path for path in installed.folder.rglob("*") if path.is_file()] == [installed.module]
    assert installed.use() == (42, "compiled", [])


def test_one_more_folder_is_looked_into(installed, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/dev/null")
    installed.folder.chmod(0o555)
    with obeying_permissions(), code_cache.looking_into(tmp_path / "more"):
        assert installed.use() == (42, "compiled", [])
        assert installed.use() == (42, "loaded", [])
    with obeying_permissions():
        assert installed.use()[1] == "compiled"


def test_what_is_stored_is_known_without_loading_it(installed, monkeypatch):
    def state() -> tuple[bool, bool]:
        cache = installed.start()._cache
        return cache.is_stored(), cache.can_save()

    assert state() == (False, True)
    installed.use()
    assert state() == (True, True)
    _flip_a_bit(installed.file("nbc"))
    assert state() == (False, True)
    monkeypatch.setenv("HOME", "/dev/null")
    installed.cache.chmod(0o555)
    with obeying_permissions():
        assert state() == (False, False)
    installed.cache.chmod(0o755)
    monkeypatch.setattr(code_cache, "_ROOM_BYTES", 1 << 60)
    assert state() == (False, False)


_WIDEN = """
import numpy as np
from samplerd_server.sampling.kernels.compile import kernel, load_f16


@kernel
def widen(address, out):
    for i in range(len(out)):
        out[i] = load_f16(address, i)


stored = np.arange(65536, dtype=np.uint16)
out = np.empty(65536, np.float32)
widen(np.uint64(stored.ctypes.data), out)
wanted = stored.view(np.float16).astype(np.float32)
is_nan = np.isnan(wanted)
assert np.array_equal(out[~is_nan].view(np.uint32), wanted[~is_nan].view(np.uint32))
assert np.isnan(out[is_nan]).all()
[code] = widen.inspect_asm().values()
assert "vcvtph2ps" not in code
"""


def test_half_precision_is_read_exactly_by_a_processor_without_an_instruction_for_it(tmp_path):
    """LLVM would call a function that no process has, and abort."""
    (tmp_path / "widen.py").write_text(_WIDEN)
    environment = {"PYTHONPATH": ":".join(sys.path), "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    done = subprocess.run([sys.executable, tmp_path / "widen.py"], env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
