"""The archive of compiled kernels: which of them a card gets, and what is said where there are none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from zipfile import ZipFile

import pytest

from samplerd_server.core.errors import DeviceError
from samplerd_server.sampling.cuda import archive

PROGRAM = """
from samplerd_server.sampling.cuda.write_archive import write_archive
print(write_archive((80, 90), ("measure", "select")))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(archive, "archive_paths", lambda: iter([tmp_path / "gpu.zip"]))
    return tmp_path


def write(path, **changes) -> None:
    files = {name: f"{name} of measure" for name in ("ptx", "80", "90")}
    targets = {name: {"file": name, "entry": "measure", "warps": 4, "shared": 16} for name in files}
    about = {"format": archive.FORMAT, "digest": archive.source_digest(), "architectures": [80, 90], **changes}
    with ZipFile(path, "w") as file:
        for name, text in files.items():
            file.writestr(name, text)
        file.writestr(archive.ABOUT, json.dumps(about | {"kernels": {"measure": targets}}))


@pytest.mark.parametrize(
    ("capability", "image"), [(80, "80"), (90, "90"), (86, "ptx"), (87, "ptx"), (103, "ptx"), (121, "ptx")]
)
def test_a_card_gets_its_machine_code_or_assembly(folder, capability, image) -> None:
    write(folder / "gpu.zip")
    own = archive.choose_kernels(capability)["measure"]
    assert own.image.decode() == f"{image} of measure"
    assert (own.entry, own.warps, own.shared_bytes) == ("measure", 4, 16)


def test_an_older_card_is_refused(folder) -> None:
    write(folder / "gpu.zip")
    with pytest.raises(DeviceError, match=r"has compute capability 7\.5, and the kernels need 8\.0 or later"):
        archive.choose_kernels(75)


@pytest.mark.parametrize("changes", [None, {"digest": "of other sources"}, {"format": 0}])
def test_kernels_that_are_absent_or_of_other_sources_are_not_used(folder, changes) -> None:
    if changes is not None:
        write(folder / "gpu.zip", **changes)
    with pytest.raises(DeviceError, match=r"are not compiled: python -m samplerd_server\.precompile --cuda"):
        archive.choose_kernels(90)


def test_a_damaged_archive_counts_as_absent(folder) -> None:
    write(folder / "gpu.zip")
    content = (folder / "gpu.zip").read_bytes()
    (folder / "gpu.zip").write_bytes(content[: len(content) // 2])
    with pytest.raises(DeviceError, match="are not compiled"):
        archive.choose_kernels(90)


def test_an_archive_that_lacks_a_kernel_says_so(folder) -> None:
    write(folder / "gpu.zip")
    content = (folder / "gpu.zip").read_bytes()
    (folder / "gpu.zip").write_bytes(content.replace(b"90 of measure", b"90 of another"))
    with pytest.raises(DeviceError, match=r"gpu\.zip cannot be read: .*90.*; remove it"):
        archive.choose_kernels(90)


def test_kernels_are_compiled_into_a_folder_and_found_there(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    for _ in range(2):  # the second finds what the first has written
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=280, check=False
        )
        assert done.returncode == 0, done.stderr
        [path] = [str(own) for own in tmp_path.rglob("gpu-*.zip")]
        assert done.stdout.strip() == path
    kernels = archive.choose_kernels(90)
    assert {name: own.warps for name, own in kernels.items()} == {"measure": 1, "select": 8}
    assert all(own.image.startswith(b"\x7fELF") for own in kernels.values())
    later = archive.choose_kernels(121)["select"]
    assert later.image.endswith(b"\0")
    assert b".target sm_80" in later.image  # that of a later one would run on no other
    assert b".entry " + later.entry.encode() in later.image


def test_a_process_that_interprets_writes_no_archive(tmp_path, monkeypatch) -> None:
    from samplerd_server.sampling.cuda.write_archive import write_archive  # noqa: PLC0415  # after the conftest

    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    with pytest.raises(RuntimeError, match="TRITON_INTERPRET"):
        write_archive((80,), ("measure",))
    assert not list(tmp_path.rglob("gpu-*"))
