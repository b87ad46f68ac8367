"""Pages of measured figures: what was measured is written by a program from a stored result, not by hand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_GENERATED = re.compile(r"<!-- generated: .*?<!-- end of generated: [^>]*-->", re.DOTALL)
_CODE = re.compile(r"```.*?```", re.DOTALL)
_BY_HAND = "The figures of the two tables below were measured by hand"
"""Where docs/performance.md begins to say what was tried on which day: nothing stored holds that."""
_NUMBER = r"(?:[\d.,]+|two|three|four|five|ten|twenty|a hundred|a thousand)"
_FIGURE = re.compile(
    rf"[\d.,]+ (?:%|MiB more)|\b{_NUMBER} times as|\b{_NUMBER} (?:s|ms|us) of processor time", re.IGNORECASE
)
PAGES = [
    page
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    if "<!-- generated: measured" in page.read_text(encoding="utf-8")
]


def figures_by_hand(text: str) -> list[str]:
    """Give the measured figures that stand outside the generated sections of a page."""
    text, _, _ = text.partition(_BY_HAND)
    return _FIGURE.findall(" ".join(_CODE.sub(" ", _GENERATED.sub(" ", text)).split()))


def test_there_are_pages_of_measured_figures() -> None:
    assert {page.name for page in PAGES} >= {"scaling.md", "batching.md", "performance.md", "first_start.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_measured_figures_are_generated(page: Path) -> None:
    assert figures_by_hand(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "figure",
    ["up to 22 % more", "two to five\ntimes as long", "a hundred times as long", "takes 16 s of processor time"],
)
def test_a_figure_by_hand_is_found(figure: str) -> None:
    assert figures_by_hand(f"Prose says {figure}.")
    assert not figures_by_hand(f"<!-- generated: x (make generate) -->\n{figure}\n<!-- end of generated: x -->")
