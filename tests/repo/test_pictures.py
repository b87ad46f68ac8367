"""The pictures of the docs are those that docs/pictures/draw.py draws: none is left from an older law."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from scripts.site import ROOT

FOLDER = ROOT / "docs" / "pictures"
DRAW_INTO = """
import pathlib, runpy, sys
names = runpy.run_path(sys.argv[1])["main"].__globals__
names["HERE"] = pathlib.Path(sys.argv[2])
names["main"]()
"""


def test_pictures_are_fresh(tmp_path: Path) -> None:
    # In a process of its own: what other tests have set in matplotlib would change the lines.
    command = [sys.executable, "-c", DRAW_INTO, str(FOLDER / "draw.py"), str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120)
    drawn = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    assert len(drawn) == 5
    stale = {name for name, text in drawn.items() if (FOLDER / name).read_text(encoding="utf-8") != text}
    assert not stale, "run python docs/pictures/draw.py"
