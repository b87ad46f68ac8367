"""The words that the glossary has retired name no module and no class of the server."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVER = ROOT / "server" / "samplerd_server"


def retired() -> list[str]:
    page = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", page.partition("## Retired words")[2], re.MULTILINE)
    return [word for row in rows[1:] for word in re.sub(r"\(.*?\)", "", row).replace(" ", "").split(",")]


def words(name: str) -> set[str]:
    """The words of a snake_case or CamelCase name: TicketQueue and ticket_queue have two."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", name)}


NAMES = {
    str(path.relative_to(SERVER)): [
        path.stem if path.name != "__init__.py" else path.parent.name,
        *(
            node.name
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.ClassDef)
        ),
    ]
    for path in sorted(SERVER.rglob("*.py"))
}


def test_the_list_is_read():
    assert {"life", "private", "census", "listing", "team", "tables"} <= set(retired())
    assert words("TicketQueue_of CDFIndex") == {"ticket", "queue", "of", "cdf", "index"}


@pytest.mark.parametrize("word", retired())
def test_a_retired_word_names_no_module_and_no_class(word: str) -> None:
    found = {f"{path}: {name}" for path, names in NAMES.items() for name in names if word in words(name)}
    assert not found
