"""Faults that a test brings about inside a running server, which runs a file of Python when it appears."""

from __future__ import annotations

import os
from pathlib import Path

HUNG_DEVICE = "import time, samplerd_server.engine.device_thread as own; own._draw = lambda *_: time.sleep(600)"
RAISING_DEVICE = """
import samplerd_server.engine.device_thread as own
def fail(*_): raise RuntimeError("the test's device")
own._draw = fail
"""
FULL_DEVICE = """
import samplerd_server.engine.device_thread as own
def fail(*_): raise MemoryError
own._draw = fail
"""
HUNG_LOOP = "import time, samplerd_server.batching.batcher as own; own.Batcher.sweep = lambda *_: time.sleep(600)"

_HOOK = """
import sys, threading, time
def _wait(path={path!r}, tried=[]):
    while True:
        time.sleep(0.02)
        if 'samplerd_server.engine.device_thread' in sys.modules:
            try:
                with open(path, encoding='utf-8') as file:
                    text = file.read()
            except OSError:
                continue
            if text not in tried:
                tried.append(text)
                exec(text, {{}})
threading.Thread(target=_wait, daemon=True).start()
"""


class Faults:
    """Faults of the servers that are started with `environment`."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "fault.py"
        (folder / "sitecustomize.py").write_text(_HOOK.format(path=str(self._file)), encoding="utf-8")
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]),
        }

    def inject(self, code: str) -> None:
        """Run some code in every server that serves now or later."""
        scratch = self._file.with_suffix(".new")
        scratch.write_text(code, encoding="utf-8")
        scratch.rename(self._file)

    def mend(self) -> None:
        """Let servers that start from now on be well."""
        self._file.unlink()
