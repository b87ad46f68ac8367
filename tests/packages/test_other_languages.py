"""The lines of docs/other_languages.md that say they were tried are run as they stand."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.package

ROOT = Path(__file__).parents[2]
ROWS = re.findall(
    r"^\| (\S+) \| `(protoc .+?)` \| (.+?) \|$",
    (ROOT / "docs" / "other_languages.md").read_text(encoding="utf-8"),
    re.MULTILINE,
)
TRIED = {language: (command, what) for language, command, what in ROWS if what != "no"}


def test_the_page_has_rows():
    assert set(TRIED) == {"PHP", "C#", "Kotlin", "Objective-C"}


@pytest.mark.parametrize("language", TRIED)
def test_a_line_gives_stubs(language, tmp_path):
    command, what = TRIED[language]
    (tmp_path / "stubs").mkdir()
    (tmp_path / "protos").symlink_to(ROOT / "protos")
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = {path.name: path for path in (tmp_path / "stubs").rglob("*") if path.is_file()}
    assert any("SampleRequest" in path.read_text(encoding="utf-8") for path in made.values())
    assert ("SamplerServiceClient.php" in made) == ("service" in what)
