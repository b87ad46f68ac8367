"""Links lead somewhere, and every make target that is named exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "client/**/*.md", "examples/**/*.md", "benchmarks/*.md")
    for page in ROOT.glob(pattern)
    if not {"node_modules", "build"} & set(page.parts)
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", prose):
        if not target.startswith(("http:", "https:")):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_make_targets_exist(page: Path) -> None:
    makefiles = [ROOT / "Makefile", page.parent / "Makefile"]
    lines = "".join(path.read_text(encoding="utf-8") for path in makefiles if path.exists())
    targets = set(re.findall(r"^([a-z][a-z-]*):", lines, re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)", page.read_text(encoding="utf-8")))
    assert named <= targets, f"{page.relative_to(ROOT)} names {named - targets}"
