"""The flags and metrics that a page names exist, with the labels that it gives them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from samplerd_client.command_line.parser import leaves_of
from samplerd_client.samplerctl.arguments import build_parser
from samplerd_ray.command_line import build_parser as build_ray_parser
from samplerd_server.config.flags import build_parser as build_server_parser
from samplerd_server.metrics.definition import definitions_of
from samplerd_server.metrics.table import PROCESS, ServerTable, SupervisorTable
from scripts.site import PAGES, ROOT

if TYPE_CHECKING:
    from pathlib import Path

ROWS = [*definitions_of(ServerTable), *definitions_of(SupervisorTable), *PROCESS]
METRICS = {row.exported_name: row for row in ROWS}
FORMER = {old.name + row.suffix for row in ROWS for old in row.formerly}
PACKAGES = {"samplerd_client", "samplerd_ray", "samplerd_server"}
FLAGS = {
    flag
    for parser in (build_parser(), build_ray_parser(), build_server_parser())
    for _, leaf in leaves_of(parser)
    for action in leaf._actions
    for flag in action.option_strings
}
OF_OTHERS = {
    "docs/by_hand.md": {"--http"},  # buf curl, --http2-prior-knowledge
    "docs/coming_from.md": {"--generation-config"},  # vLLM
    "docs/deployment.md": {"--build-arg", "--tmpfs"},  # Docker
    "docs/distributions.md": {"--shm-size"},  # Docker
    "docs/open_inference_protocol.md": {"--profile-export-file"},  # perf_analyzer
    "docs/shared_memory.md": {"--ipc"},  # Docker
}
"""Flags of other programs that a page names."""
CURRENT = [page for page in PAGES if not page.match("docs/design/*.md") and page.name != "CHANGELOG.md"]
"""The pages that say what is, and not what was."""
# The others have programs of their own: benchmarks, runners, examples.
OURS = [page for page in CURRENT if page.parts[0] == "docs" or len(page.parts) == 1]


def text_of(page: Path) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", OURS, ids=str)
def test_flags_exist(page: Path) -> None:
    named = set(re.findall(r"`(?:samplerd |samplerctl \w+ |samplerd-ray \w+ )?(--[a-z][a-z-]+)", text_of(page)))
    assert named - FLAGS == OF_OTHERS.get(str(page), set())


@pytest.mark.parametrize("page", CURRENT, ids=str)
def test_metrics_exist_with_their_labels(page: Path) -> None:
    for name, labels in re.findall(r"\b(samplerd_\w+)(?:\{([^}\n]*)\})?", text_of(page)):
        if name in PACKAGES | FORMER:
            continue
        row = METRICS.get(name) or METRICS.get(re.sub(r"_(bucket|sum|count)$", "", name))
        assert row is not None, f"there is no metric {name}"
        known = {label.name: label for label in row.labels}
        for label, value in re.findall(r'(\w+)!?="([^"]*)"', labels):
            assert label in known, f"{name} has no label {label}"
            values = known[label].values
            assert not values or known[label].others or value in values, f"{label} of {name} is never {value}"


def test_names_are_found() -> None:
    assert len(FLAGS) > 100
    assert sum("samplerd_shed_total" in text_of(page) for page in PAGES) >= 3
