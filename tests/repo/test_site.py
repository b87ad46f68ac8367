"""The documentation site has every page, and its pages can be laid out and checked without mkdocs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scripts.site import PAGES, ROOT, faults_of, for_mkdocs, lay_out, links_of, missing_from, pages_in_navigation


def test_every_page_is_in_the_navigation() -> None:
    linked_from_its_list = {page for page in PAGES if page.match("docs/design/0*.md")}
    missing = {str(page) for page in PAGES if page not in linked_from_its_list} - set(pages_in_navigation())
    assert not missing, "name these pages in mkdocs.yml"


def test_the_navigation_names_each_page_once() -> None:
    named = pages_in_navigation()
    assert len(named) == len(set(named)) > 30
    assert {page for page in named if not (ROOT / page).is_file()} == set()


def test_every_design_record_is_in_their_list() -> None:
    folder = ROOT / "docs" / "design"
    listed = set(links_of(Path("docs/design/README.md")))
    assert {path.name for path in folder.glob("0*.md")} <= listed


def test_every_design_record_has_a_number_of_its_own() -> None:
    numbers = sorted(path.name[:4] for path in (ROOT / "docs" / "design").glob("0*.md"))
    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]


def test_what_pages_link_to_is_laid_out_beside_them(tmp_path: Path) -> None:
    lay_out(tmp_path / "pages")
    for page in PAGES:
        for target in links_of(page):
            assert (tmp_path / "pages" / page.parent / target).exists(), f"{page} links to {target}"


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (r"| `a\|b` | a \| b | `c` |", r"| `a|b` | a \| b | `c` |"),
        (r"`a\|b` outside of a table", r"`a\|b` outside of a table"),
        ("```rust,no_run\nlet a, b;\n```", "```rust\nlet a, b;\n```"),
    ],
)
def test_a_page_is_laid_out_as_mkdocs_reads_it(text: str, read: str) -> None:
    assert for_mkdocs(text) == read


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_a_list_is_set_off_from_the_paragraph_before_it(page: Path) -> None:
    """Python-Markdown would make it a part of the paragraph."""
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    assert re.findall(r"^(?![-*] |\d+\. |\s|$)[^\n]+\n(?:[-*]|\d+\.) .*", text, re.MULTILINE) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('<a href="nowhere.html">', "index.html links to nowhere.html, which does not exist"),
        ('<a href="#nowhere">', "index.html links to #nowhere, and there is no such anchor"),
        ('<script src="https://example.org/a.js">', "index.html fetches https://example.org/a.js"),
        ('<link rel="stylesheet" href="//example.org/a.css">', "index.html fetches //example.org/a.css"),
        ('<a href="https://example.org/" id="here">, <a href="#here">', None),
    ],
)
def test_a_fault_of_the_built_site_is_told(tmp_path: Path, text: str, fault: str | None) -> None:
    (tmp_path / "index.html").write_text(text)
    assert faults_of(tmp_path) == ([fault] if fault else [])


def test_a_site_that_was_not_built_is_a_fault(tmp_path: Path) -> None:
    assert faults_of(tmp_path) == ["the site has no pages: run make docs"]


def test_search_works_on_a_page_from_a_disk(tmp_path: Path) -> None:
    """The index comes as a script, which only the plugin offline writes; what reads it is laid out, and is loaded."""
    lay_out(tmp_path)
    assert missing_from(tmp_path) == ["search/search_index.js is missing"]
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert re.search(r"^plugins:\n  - search\n  - offline$", settings, re.MULTILINE)
    for kind, name in (("polyfills", "iframe-worker.js"), ("extra_css", "site.css")):
        assert f"{kind}: [assets/{name}]" in settings
        assert (tmp_path / "assets" / name).is_file()
