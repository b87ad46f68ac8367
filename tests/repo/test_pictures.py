"""The pictures of the docs are those that docs/pictures/draw.py draws: none is left from an older law."""

from __future__ import annotations

import runpy
from pathlib import Path

import matplotlib as mpl

from scripts.site import ROOT

FOLDER = ROOT / "docs" / "pictures"


def test_pictures_are_fresh(tmp_path: Path) -> None:
    names = runpy.run_path(str(FOLDER / "draw.py"))
    functions = names["main"].__globals__
    functions["HERE"] = tmp_path
    with mpl.rc_context():
        functions["main"]()
    drawn = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    assert len(drawn) == 5
    stale = {name for name, text in drawn.items() if (FOLDER / name).read_text(encoding="utf-8") != text}
    assert not stale, "run python docs/pictures/draw.py"
