"""Draw the terminal of README.md: commands of samplerctl, and what a live server made them print.

Run it from the root of the repository beside a server: ``python docs/pictures/terminal.py``; SAMPLERD_SERVER names a
server that is elsewhere. Seeds are fixed, so that only the milliseconds change: tests/integration/test_pages.py runs
the commands again, and compares.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from xml.sax.saxutils import escape

PICTURE = Path(__file__).parent / "terminal.svg"
COMMANDS = (
    "samplerctl sample --logits 1,2,0.5,1.5 --temperature 0.7 -n 100000 --seed 42",
    "samplerctl sample --probabilities 0.1,0.2,0.3,0.4 -n 3 --without-replacement --seed 7 --output jsonl",
    "samplerctl sample --logits 1,2,0.5,1.5 --top-p 7",
)
SIZE, LINE, MARGIN = 13, 18, 18
"""Height of a letter and of a line, and the empty space around the text, in pixels."""
BACK, FRONT, PROMPT, BAR = "#1d262d", "#d8e0e5", "#7fc8a9", "#7fa9c4"


def transcript() -> list[str]:
    """Run the commands; return their lines, each command after a prompt."""
    lines: list[str] = []
    for command in COMMANDS:
        words = [sys.executable, "-m", "samplerd_client.samplerctl", *shlex.split(command)[1:]]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603  # our own
        lines += [f"$ {command}", *(done.stdout + done.stderr).rstrip("\n").split("\n"), ""]
    return lines[:-1]


def picture(lines: list[str]) -> str:
    """Lay the lines out as SVG; every letter takes the same width, whatever font the reader has."""
    width = max(map(len, lines)) * SIZE * 0.6 + 2 * MARGIN
    height = len(lines) * LINE + 2 * MARGIN
    texts = []
    for number, line in enumerate(lines):
        colour = PROMPT if line.startswith("$ ") else BAR if "█" in line else FRONT
        place = f'x="{MARGIN}" y="{MARGIN + (number + 0.75) * LINE:g}" fill="{colour}"'
        length = f'textLength="{len(line) * SIZE * 0.6:.1f}" lengthAdjust="spacingAndGlyphs"'
        if line:
            texts.append(f'<text {place} {length} xml:space="preserve">{escape(line)}</text>')
    size = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" font-size="{SIZE}"'
    fonts = "ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{fonts}">',
            f'<rect width="100%" height="100%" rx="8" fill="{BACK}"/>',
            *texts,
            "</svg>\n",
        ]
    )


def main() -> None:
    """Write the picture."""
    PICTURE.write_text(picture(transcript()), encoding="utf-8")


if __name__ == "__main__":
    main()
