"""Generated pages are fresh, links lead somewhere, and every make target that is named exists."""

from __future__ import annotations

import importlib.util
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


@pytest.mark.parametrize("name", ["configuration", "protocol"])
def test_generated_pages_are_fresh(name: str) -> None:
    spec = importlib.util.spec_from_file_location(f"{name}_page", ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    assert module.PAGE.read_text(encoding="utf-8") == module.page(), f"run python docs/{name}.py"


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
