"""The documentation site: lay out its pages, and check what mkdocs made of them.

``python -m scripts.site`` copies the pages, and every file that they link to, into build/site-pages, in the folders in
which they lie in the repository. mkdocs builds build/site from that (`make docs`). ``python -m scripts.site --check``
then reads build/site: nothing on it comes from another host, and every link within it leads somewhere. Rule: only the
standard library, since the environment that mkdocs is in has no samplerd.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "PAGES",
    "ROOT",
    "faults_of",
    "for_mkdocs",
    "lay_out",
    "links_of",
    "main",
    "missing_from",
    "pages_in_navigation",
]

ROOT = Path(__file__).resolve().parents[1]
_SOURCE = ROOT / "build" / "site-pages"
_SITE = ROOT / "build" / "site"
_ASSETS = ROOT / "scripts" / "site_assets"
"""What pages fetch beside what the theme brings."""
PAGES = sorted(
    path.relative_to(ROOT)
    for pattern in ("*.md", "docs/**/*.md", "client/*.md", "client/*/README.md", "examples/**/*.md", "benchmarks/*.md")
    for path in ROOT.glob(pattern)
)
"""Every page of the repository that the site shows, within the repository."""
_FETCHED = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src")}
"""Attributes whose address a browser fetches by itself."""


def links_of(page: Path) -> Iterator[str]:
    """Yield the local targets of a page's links and pictures, without their anchors; page: within the repository."""
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)", prose):
        if not re.match(r"[a-z]+:", target):
            yield target


def pages_in_navigation() -> list[str]:
    """Return the pages that mkdocs.yml names, in its order."""
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    return re.findall(r"^ +- (?:.*: )?([\w./-]+\.md)$", text[text.index("\nnav:") :], re.MULTILINE)


def lay_out(folder: Path) -> None:
    """Copy the pages and what they link to into a folder, which is emptied first.

    Raises:
        FileNotFoundError: a page links to a file that does not exist.

    """
    shutil.rmtree(folder, ignore_errors=True)
    wanted = set(PAGES)
    for page in PAGES:
        wanted |= {(ROOT / page.parent / target).resolve().relative_to(ROOT) for target in links_of(page)}
    for path in sorted(wanted):
        if not (ROOT / path).is_dir():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            if path in PAGES:
                (folder / path).write_text(for_mkdocs((ROOT / path).read_text(encoding="utf-8")), encoding="utf-8")
            else:
                shutil.copyfile(ROOT / path, folder / path)
    shutil.copytree(_ASSETS, folder / "assets")


def for_mkdocs(text: str) -> str:
    r"""Return a page as mkdocs reads it, where it reads two things otherwise than the repository's host does.

    A bar within code within a table: ``\|`` there, ``|`` here. A language with attributes, as rustdoc has them:
    ``rust,no_run`` there, ``rust`` here.
    """

    def cells(line: re.Match[str]) -> str:
        return re.sub(r"`[^`\n]*`", lambda code: code[0].replace("\\|", "|"), line[0])

    return re.sub(r"^(```\w+),.*$", r"\1", re.sub(r"^\|.*$", cells, text, flags=re.MULTILINE), flags=re.MULTILINE)


class _Page(HTMLParser):
    """Collects what a page fetches, where it links to, and which anchors it has."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.linked: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.anchors.add(value)
            elif (tag, name) in _FETCHED and value:
                self.fetched.append(value)
            elif (tag, name) == ("a", "href") and value:
                self.linked.append(value)


def faults_of(site: Path) -> list[str]:
    """Read a built site; return a sentence for each address on another host, and for each link that leads nowhere."""
    pages: dict[Path, _Page] = {}
    for path in sorted(site.rglob("*.html")):
        pages[path] = _Page()
        pages[path].feed(path.read_text(encoding="utf-8"))
    faults = []
    for path, page in pages.items():
        name = path.relative_to(site)
        faults += [f"{name} fetches {target}" for target in page.fetched if urlsplit(target).netloc]
        if path.name == "404.html":
            continue  # its links begin at the root of the server that shows it
        for target in dict.fromkeys([*page.linked, *page.fetched]):
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            other = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not other.exists():
                faults.append(f"{name} links to {target}, which does not exist")
            elif parts.fragment and other in pages and unquote(parts.fragment) not in pages[other].anchors:
                faults.append(f"{name} links to {target}, and there is no such anchor")
    for path in sorted(site.rglob("*.css")):
        found = re.findall(r"url\([\"']?(https?://[^)]*)|@import [\"'](https?://[^\"']*)", path.read_text("utf-8"))
        faults += [f"{path.relative_to(site)} fetches {''.join(address)}" for address in found]
    return faults if pages else ["the site has no pages: run make docs"]


def missing_from(site: Path) -> list[str]:
    """Return what the search and the looks of a built site need and it lacks.

    A page that was opened from a disk may fetch no JSON. The index comes as a script there, which an asset reads.
    """
    wanted = ("search/search_index.js", *(f"assets/{own.name}" for own in sorted(_ASSETS.iterdir())))
    return [f"{path} is missing" for path in wanted if not (site / path).exists()]


def main() -> int:
    """Return the exit status: 1 when the site has a fault."""
    parser = argparse.ArgumentParser(prog="python -m scripts.site", description=__doc__)
    parser.add_argument("--check", action="store_true", help="check build/site instead of laying out its pages")
    if not parser.parse_args().check:
        lay_out(_SOURCE)
        return 0
    faults = faults_of(_SITE) + missing_from(_SITE)
    print("\n".join(faults) if faults else f"the site is whole: {len(PAGES)} pages, nothing from another host")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
