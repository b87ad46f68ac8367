"""The program of a page that generates with llama-cpp-python: prints the texts of both prompts as JSON.

Run with the program's text, a path to write its model to, and the folders of samplerd's client, of its stubs and of the
repository.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

text, path, *folders = sys.argv[1:]
sys.path[:0] = folders

from benchmarks.engines.random_gguf import Shape, write_model  # noqa: E402  # found in the folders

SHAPE = Shape(vocab_size=151_936, layers=1, hidden=32, feed_forward=64, heads=2, kv_heads=1, head_size=16)

write_model(Path(path), SHAPE, seed=1, end=151_935)
names: dict[str, Any] = {}
exec(compile(text.replace('b"model.gguf"', repr(path.encode())), "a page of the docs", "exec"), names)  # our own page
print(json.dumps(names["texts"]))
