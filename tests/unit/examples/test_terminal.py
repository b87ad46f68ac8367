"""What is printed fits its place."""

import pytest

from examples.terminal import Live, clip, table


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("short", 10, "short"),
        ("0123456789", 10, "012345678…"),
        ("ツツツツツ", 7, "ツツツ…"),
        ("a\x1b[2J\x93b\u200fc", 20, "a[2Jbc"),
    ],
)
def test_clip(text: str, width: int, expected: str) -> None:
    assert clip(text, width) == expected


def test_table_aligns_numbers_to_the_right() -> None:
    assert table([["a", "1"], ["bcd", "23"]], header=["x", "n"]) == "  x     n\n  a     1\n  bcd  23"


def test_table_keeps_asides_to_the_left() -> None:
    assert table([["a", "1", "x"], ["b", "23", "long"]], notes=True) == "  a   1  x\n  b  23  long"


def test_without_a_terminal_only_the_last_state_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    live = Live()
    live.draw(["growing"])
    live.finish(["grown", "up"])
    assert capsys.readouterr().out == "grown\nup\n"
