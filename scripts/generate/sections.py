"""Generated sections of pages that are otherwise written by hand."""

from __future__ import annotations

from pathlib import Path

__all__ = ["replace_sections"]

_ROOT = Path(__file__).parents[2]


def replace_sections(path: str, **sections: str) -> str:
    """Give the text of a page with what stands between each pair of markers replaced.

    Args:
        path: the page, within the repository.
        sections: Markdown by the name of its section.

    Raises:
        ValueError: the page has no such section.

    """
    text = (_ROOT / path).read_text(encoding="utf-8")
    for name, content in sections.items():
        begin, end = f"<!-- generated: {name} (make generate) -->\n", f"<!-- end of generated: {name} -->\n"
        before, found, rest = text.partition(begin)
        _, ended, after = rest.partition(end)
        if not (found and ended):
            raise ValueError(f"{path} has no section between {begin.strip()} and {end.strip()}")
        text = f"{before}{begin}\n{content.strip()}\n\n{end}{after}"
    return text
