"""Links lead somewhere, every make target that is named exists, and the changelog says nothing twice."""

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


SERVER = ROOT / "server" / "samplerd_server"
NAMES_FILES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SOURCES = sorted(SERVER.rglob("*.py"))
FILE = r"[\w.*{},/-]+\.(?:py|md|proto|json|toml)"


def missing(names: set[str], page: Path) -> set[str]:
    """The names that are no file below the root, the contract's folder, or a folder that holds the page itself."""
    folders = (ROOT, ROOT / "protos", SERVER, *page.parents[: len(page.relative_to(ROOT).parts)])
    return {name for name in names if not any(any(folder.glob(name)) for folder in folders)}


@pytest.mark.parametrize("page", NAMES_FILES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_a_page_names_exist(page: Path) -> None:
    named = set(re.findall(rf"`({FILE})`", page.read_text(encoding="utf-8")))
    assert not missing(named, page)


@pytest.mark.parametrize("page", SOURCES, ids=lambda page: str(page.relative_to(SERVER)))
def test_files_that_a_comment_of_the_server_names_exist(page: Path) -> None:
    named = set(re.findall(r"(?<![\w/.{-])((?:[a-z_]+/)+[\w-]+\.(?:py|md|proto))\b", page.read_text(encoding="utf-8")))
    assert not missing(named, page)


def test_the_changelog_says_no_line_twice_within_a_release() -> None:
    for release in re.split(r"^## ", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE):
        lines = [line for line in release.splitlines() if len(line) > 60]
        assert sorted(lines) == sorted(set(lines))
