"""The table of languages and features in client/README.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from pathlib import Path

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
    "arrays",
    "frequencies",
    "stream",
    "limits",
    "deadline",
    "cancel",
    "retry",
    "tls",
    "token",
    "example",
)
_BEGIN, _END = "<!-- table: made by make client-table -->\n", "<!-- end of table -->\n"
_MARKS = {"pass": "yes", "fail": "**fails**", "unsupported": "no"}


class Outcome(NamedTuple):
    """What became of one feature."""

    state: str
    """pass, fail or unsupported."""
    detail: str


Outcomes: TypeAlias = dict[str, Outcome]
"""By feature."""


def write_table(path: Path, found: dict[str, dict[str, Outcomes]], *, check: bool = False) -> bool:
    """Put the table into a document, between its marks; returns whether that changes it. `check`: do not write."""
    text = path.read_text()
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    fresh = before + _BEGIN + "\n" + _table(found) + "\n" + _END + after
    if not check:
        path.write_text(fresh)
    return fresh != text


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
