"""What a program has written is what it would write now."""

from __future__ import annotations

import pytest

from scripts.generate import FILES, ROOT


@pytest.mark.parametrize("name", FILES)
def test_generated_files_are_fresh(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == FILES[name](), f"{name} is stale: run make generate"
