"""docs/coming_from.md and the table of systems say the same, and the page names fields that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from samplerd.v1 import sampler_pb2 as pb
from tests.peers.environments import ENVIRONMENTS
from tests.peers.systems import SYSTEMS, System

PAGE = Path(__file__).parents[2] / "docs" / "coming_from.md"
TEXT = PAGE.read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", TEXT, re.DOTALL | re.MULTILINE))
FIELDS = {
    *pb.SamplingParams.DESCRIPTOR.fields_by_name,
    *(f"dry.{name}" for name in pb.DryParams.DESCRIPTOR.fields_by_name),
    *pb.Outputs.DESCRIPTOR.fields_by_name,
    *pb.SampleRequest.DESCRIPTOR.fields_by_name,
    *pb.Order.keys(),
    *pb.PenaltyScope.keys(),
    *("raw", "scaled", "processed"),
}
"""What the second column of a table may name."""


def rows(section: str) -> list[list[str]]:
    """The cells of a section's table, without its head."""
    table = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


@pytest.mark.parametrize("system", SYSTEMS.values(), ids=SYSTEMS.keys())
def test_the_page_has_the_version_and_a_section(system: System) -> None:
    assert system.title in SECTIONS
    overview = next(line for line in TEXT.splitlines() if line.startswith(f"| [{system.title}]"))
    assert re.sub(r"[ (].*", "", system.version.removeprefix("commit ")) in overview
    assert ("| yes |" in overview) == (system.name in ENVIRONMENTS)


@pytest.mark.parametrize("system", SYSTEMS.values(), ids=SYSTEMS.keys())
def test_every_row_says_a_field_that_exists(system: System) -> None:
    own = rows(SECTIONS[system.title])
    assert own
    for cells in own:
        assert len(cells) == 3, cells
        named = re.findall(r"`([\w.]+)[^`]*`", re.sub(r"\[.*?\]\(.*?\)", "", cells[1]))
        assert set(named) <= FIELDS, f"{cells[0]}: {set(named) - FIELDS}"


@pytest.mark.parametrize("system", SYSTEMS.values(), ids=SYSTEMS.keys())
def test_every_default_of_a_system_is_on_the_page(system: System) -> None:
    for value in system.defaults.values():
        assert re.search(rf"(?<![\d.]){re.escape(f'{value:g}')}(?![\d])", SECTIONS[system.title]), value


def test_anchors_lead_to_headings() -> None:
    headings = {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= headings
