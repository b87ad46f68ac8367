"""The child process that compiles: when it is started, what it is told, and what is said of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from samplerd_server.config.environment import interpreter_environment
from samplerd_server.engine import compile_child
from samplerd_server.engine.compile_child import compiled_ahead
from samplerd_server.sampling.kernels import code_cache, compile, shared_parts  # noqa: A004


class FakeKernel:
    """A kernel whose machine code is a file that the child makes."""

    def __init__(self, file: Path, *, can_save: bool = True) -> None:
        self.py_func = SimpleNamespace(__module__="samplerd_server.sampling.kernels.fake")
        self._cache = self
        self._file = file
        self._can_save = can_save
        self.asked = 0

    def is_stored(self) -> bool:
        self.asked += 1
        return self._file.exists()

    def can_save(self) -> bool:
        return self._can_save


@pytest.fixture
def start(monkeypatch, caplog, tmp_path):
    """Compile with a child that runs this code; gives the messages of the log, with their values."""
    caplog.set_level("INFO")

    def run(
        kernel: FakeKernel, code: str, spare: Path | None = None, python: str = sys.executable
    ) -> list[tuple[str, dict[str, object]]]:
        monkeypatch.setattr(compile, "ENTRY_POINTS", [kernel])
        monkeypatch.setattr(shared_parts, "all_parts", lambda: [FakeKernel(tmp_path)])
        text = f"import os, sys, pathlib\nfile = pathlib.Path({str(kernel._file)!r})\n{code}"
        monkeypatch.setattr(compile_child, "_command", lambda: [python, "-c", text])
        with compiled_ahead(spare):
            folders.extend(code_cache._spare_folders)
        assert code_cache._spare_folders == []
        return [(own.getMessage(), own.values) for own in caplog.records]

    folders: list[Path] = []
    run.folders = folders
    return run


def test_a_complete_cache_starts_no_process(start, tmp_path):
    assert start(FakeKernel(tmp_path), "raise SystemExit(9)") == []


def test_a_missing_kernel_is_compiled_by_a_child_process(start, tmp_path):
    kernel = FakeKernel(tmp_path / "code")
    (began, values), (ended, _) = start(kernel, "file.write_text(' '.join(sys.argv[1:]))")
    assert (began, ended) == ("compiling kernels", "compiled kernels")
    assert values["kernels"] == 1
    assert kernel._file.read_text() == f"--processes={values['processes']} --until-input-ends"


def test_a_missing_shared_part_is_compiled_by_a_child_process(start, tmp_path, monkeypatch):
    (tmp_path / "code").touch()
    monkeypatch.setattr(compile_child, "_missing", lambda kernels: kernels[1:])
    (began, values), (ended, _) = start(FakeKernel(tmp_path / "code"), "")
    assert (began, values["kernels"], ended) == ("compiling kernels", 1, "compiled kernels")


def test_kernels_of_others_do_not_count(start, tmp_path):
    kernel = FakeKernel(tmp_path / "code")
    kernel.py_func.__module__ = "tests"
    assert start(kernel, "raise SystemExit(9)") == []


def test_the_log_says_how_far_it_is(start, tmp_path, monkeypatch):
    monkeypatch.setattr(compile_child, "_REPORT_S", 0.01)

    class Slow(FakeKernel):
        def is_stored(self) -> bool:
            if self.asked == 3:
                (tmp_path / "go").touch()
            return super().is_stored()

    code = "while not (file.parent / 'go').exists(): pass\nfile.touch()"
    messages = start(Slow(tmp_path / "code"), code)
    assert ("compiling kernels", {"done": "1 of 2", "after": "0s"}) in messages


def test_a_child_that_fails_is_reported_in_one_line(start, tmp_path):
    code = "sys.stderr.write('Traceback\\nMemoryError: too small\\n'); sys.exit(7)"
    (_, _), (message, values) = start(FakeKernel(tmp_path / "code"), code)
    assert message == "kernels are compiled in this process"
    assert values == {"cause": "MemoryError: too small", "exit_code": 7}


def test_a_child_that_cannot_be_started_is_reported_in_one_line(start, tmp_path):
    (_, _), (message, values) = start(FakeKernel(tmp_path / "code"), "", python="/missing/python")
    assert message == "kernels are compiled in this process"
    assert values == {"cause": "No such file or directory"}


def test_where_nothing_can_be_written_a_temporary_folder_is(start, tmp_path):
    kernel = FakeKernel(tmp_path / "code", can_save=False)
    start(kernel, "file.write_text(os.environ['NUMBA_CACHE_DIR'])")
    [folder] = start.folders
    assert kernel._file.read_text() == str(folder)
    assert not folder.exists()


def test_workers_share_a_spare_folder(start, tmp_path):
    kernel = FakeKernel(tmp_path / "code", can_save=False)
    start(kernel, "file.write_text(os.environ['NUMBA_CACHE_DIR'])", tmp_path / "spare")
    assert kernel._file.read_text() == str(tmp_path / "spare")
    assert {*start.folders} == {tmp_path / "spare"}


ENDS = """
import multiprocessing, sys, threading, time
from samplerd_server.precompile import _end_with_input
other = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,))
other.start()
print(other.pid, flush=True)
_end_with_input(threading.Event(), sys.argv[1])
"""


def test_the_child_ends_with_the_server_and_leaves_nothing(tmp_path):
    temporary = tmp_path / "kernels"
    temporary.mkdir()
    (temporary / "code").write_text("half")
    theirs, ours = os.pipe()
    child = subprocess.Popen(
        [sys.executable, "-c", ENDS, str(temporary)], stdin=theirs, stdout=subprocess.PIPE, start_new_session=True
    )
    os.close(theirs)
    assert child.stdout is not None
    other = int(child.stdout.readline())
    os.close(ours)
    child.stdout.close()
    assert child.wait() == 1
    assert not Path(f"/proc/{other}").exists()
    assert not temporary.exists()


def test_the_child_may_end_before_the_server():
    code = "import threading\nfrom samplerd_server.precompile import _end_with_input\n"
    code += "threading.Thread(target=_end_with_input, args=(threading.Event(), ''), daemon=True).start()"
    theirs, ours = os.pipe()
    assert (
        subprocess.run([sys.executable, "-c", code], stdin=theirs, start_new_session=True, check=False).returncode == 0
    )
    os.close(theirs)
    os.close(ours)


def test_inside_envoy_the_interpreter_is_found_beside_the_library(monkeypatch):
    assert Path(compile_child._command()[0]).samefile(sys.executable)
    monkeypatch.setattr(sys, "executable", "/usr/bin/envoy")
    assert Path(compile_child._command()[0]).samefile(Path(sys.prefix, "bin", "python3"))


def test_the_variables_that_embed_python_in_envoy_are_not_passed_on(monkeypatch):
    monkeypatch.setenv("LD_PRELOAD", "libjemalloc.so")
    assert interpreter_environment()["LD_PRELOAD"] == "libjemalloc.so"
    monkeypatch.setenv("SAMPLERD_CONFIG", "handoff.toml")
    monkeypatch.setenv("PYTHONHOME", sys.prefix)
    assert not {"LD_PRELOAD", "PYTHONHOME", "SAMPLERD_CONFIG"} & interpreter_environment().keys()
