"""The tables of client/README.md: languages and features, and fields of requests and languages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from samplerd.v1 import sampler_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FEATURES", "LANGUAGES", "Outcome", "Outcomes", "write_table"]

LANGUAGES = {
    "python": "Python",
    "node": "TypeScript / Node",
    "go": "Go",
    "cpp": "C++",
    "java": "Java",
    "rust": "Rust",
    "ruby": "Ruby",
}
"""Folder -> name."""
FEATURES = (
    "calls",
    "parameters",
    "arrays",
    "halves",
    "guidance",
    "drafts",
    "frequencies",
    "stream",
    "chunks",
    "limits",
    "deadline",
    "cancel",
    "retry",
    "budget",
    "metadata",
    "servers",
    "connections",
    "unix",
    "tls",
    "token",
    "example",
)
_BEGIN, _END = "<!-- table: made by make client-table -->\n", "<!-- end of table -->\n"
_FIELDS_BEGIN, _FIELDS_END = "<!-- fields: made by make client-table -->\n", "<!-- end of fields -->\n"
_VECTORS = Path(__file__).parent / "vectors.json"
_OF_FEATURES = {
    "guidance_scale": "guidance",
    "SampleRequest.guidance": "guidance",
    "VerifyDraftRequest.parents": "drafts",
}
"""Fields that `parameters` does not try, and the feature that does."""
_MARKS = {"pass": "yes", "fail": "**fails**", "unsupported": "no"}


class Outcome(NamedTuple):
    """What became of one feature."""

    state: str
    """pass, fail or unsupported."""
    detail: str


Outcomes: TypeAlias = dict[str, Outcome]
"""By feature."""


def write_table(path: Path, found: dict[str, dict[str, Outcomes]], *, check: bool = False) -> bool:
    """Put the tables into a document, between their marks; returns whether that changes it. `check`: do not write."""
    text = path.read_text()
    fresh = _between(text, _BEGIN, _END, _table(found))
    fresh = _between(fresh, _FIELDS_BEGIN, _FIELDS_END, _fields(found))
    if not check:
        path.write_text(fresh)
    return fresh != text


def _between(text: str, begin: str, end: str, table: str) -> str:
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n{table}\n{end}{after}"


def _table(found: dict[str, dict[str, Outcomes]]) -> str:
    lines = ["| | " + " | ".join(FEATURES) + " |", "|---|" + "---|" * len(FEATURES)]
    notes: list[str] = []
    for language, by_transport in found.items():
        cells = [_cell(language, feature, by_transport, notes) for feature in FEATURES]
        lines.append(f"| [{LANGUAGES[language]}]({language}/README.md) | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n" + "".join(f"\n{note}\n" for note in notes)


def _cell(language: str, feature: str, by_transport: dict[str, Outcomes], notes: list[str]) -> str:
    """Say what is so over all transports, or what is so over each."""
    marks = {transport: _MARKS[outcomes[feature].state] for transport, outcomes in by_transport.items()}
    reasons = {
        outcomes[feature].detail for outcomes in by_transport.values() if outcomes[feature].state == "unsupported"
    }
    notes.extend(f"{LANGUAGES[language]}, {feature}: {reason}." for reason in sorted(reasons))
    if len(set(marks.values())) == 1:
        return next(iter(marks.values()))
    return ", ".join(f"{mark} on {transport}" for transport, mark in marks.items())


def _fields(found: dict[str, dict[str, Outcomes]]) -> str:
    """Say of each field in which languages it was set, and gave what it should."""
    cases = json.loads(_VECTORS.read_text())["parameters"]["cases"]
    all_cases = {case["name"] for case in cases}
    lines = ["| | " + " | ".join(LANGUAGES[language] for language in found) + " |", "|---|" + "---|" * len(found)]
    for name in _parameters():
        others = all_cases - {case["name"] for case in cases if _is_set(name, case["params"])}
        cells = [_field_cell(by_transport, "parameters", others) for by_transport in found.values()]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    for name, feature in _OF_FEATURES.items():
        cells = [_field_cell(by_transport, feature, set()) for by_transport in found.values()]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _parameters() -> Iterator[str]:
    """List the sampling parameters, members of a group as `group.member`."""
    for field in pb.SamplingParams.DESCRIPTOR.fields:
        if field.name in _OF_FEATURES:
            continue
        members = [] if field.is_repeated or field.message_type is None else field.message_type.fields
        yield from [f"{field.name}.{member.name}" for member in members] or [field.name]


def _is_set(name: str, params: dict[str, Any]) -> bool:
    group, _, member = name.partition(".")
    return group in params and (not member or member in params[group])


def _field_cell(by_transport: dict[str, Outcomes], feature: str, others: set[str]) -> str:
    """Say whether the feature passed, or failed by nothing but these other cases."""
    outcomes = [outcomes[feature] for outcomes in by_transport.values()]
    failed = {name for outcome in outcomes for name in outcome.detail.split("; ") if outcome.state != "pass"}
    return "yes" if failed <= others else "**fails**"
