"""What guards the contract can fail: each guard is shown a contract that it must refuse."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.tools import need

PROTOS = Path(__file__).parents[2] / "protos"
FIELD = "  // Numbers in a row, V. At least 1.\n  uint32 vocab_size = 6;\n"


@pytest.fixture
def contract(tmp_path: Path) -> Path:
    """A copy of the contract, to be changed."""
    shutil.copytree(PROTOS, tmp_path / "protos", ignore=shutil.ignore_patterns("gen"))
    path = tmp_path / "protos" / "samplerd" / "v1" / "sampler.proto"
    assert FIELD in path.read_text()
    return path


def buf(contract: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [need("buf"), *arguments, "--path", "samplerd"]
    return subprocess.run(command, cwd=contract.parents[2], capture_output=True, text=True, timeout=120, check=False)


def breaking(contract: Path) -> subprocess.CompletedProcess[str]:
    return buf(contract, "breaking", "--against", "released.json")


def change(contract: Path, old: str, new: str) -> None:
    text = contract.read_text()
    assert text.count(old) == 1
    contract.write_text(text.replace(old, new))


def test_a_new_field_breaks_nobody(contract):
    change(contract, FIELD, FIELD + "  // New.\n  uint32 something_new = 7;\n")
    run = breaking(contract)
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize(
    ("new", "complaint"),
    [
        (FIELD.replace("= 6", "= 7"), "was deleted"),
        (FIELD.replace("uint32", "uint64"), "changed type"),
        (FIELD.replace("vocab_size", "width"), "changed name"),
        ("", "was deleted"),
    ],
)
def test_what_would_break_clients_is_refused(contract, new, complaint):
    change(contract, FIELD, new)
    run = breaking(contract)
    assert run.returncode != 0
    assert complaint in run.stdout


@pytest.mark.parametrize(
    "comment",
    [
        "  // Numbers in a row, V. At least 1.\n  uint32 vocab_size = 6;",
        "// The limits in force. Going past one is INVALID_ARGUMENT naming the field, unless said otherwise.\n",
        "  // The row holds a NaN.\n",
        "  // Lists the uploaded distributions, ordered by name.\n",
    ],
)
def test_nothing_is_without_a_comment(contract, comment):
    assert buf(contract, "lint").returncode == 0
    kept = "".join(line for line in comment.splitlines(keepends=True) if not line.lstrip().startswith("//"))
    change(contract, comment, kept)
    run = buf(contract, "lint")
    assert run.returncode != 0
    assert "comment" in run.stdout
