"""The program of docs/sampling.md that audits a draw by hand: it runs, and it agrees with every sampler."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

from tests.support.samplers import draw, params, request

PAGE = Path(__file__).parents[3] / "docs" / "sampling.md"


def test_the_documented_program_replays_a_draw(sampler):
    program = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL).group(1)
    printed, names = io.StringIO(), {}
    with contextlib.redirect_stdout(printed):
        exec(compile(program, "docs/sampling.md", "exec"), names)
    promised = re.search(r"print\(samples\)  # (.*)", program).group(1)
    assert printed.getvalue().strip() == promised
    asked = request([1.0, 2.0, 0.5, 1.5], params=params(temperature=0.7), num_samples=8, seed=42)
    assert draw(sampler, asked).samples.tolist() == names["samples"]
