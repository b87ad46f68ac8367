"""Processor time of compiling each kernel and each part that kernels share, in one process with nothing cached.

`python -m benchmarks.first_start` stores it as `compiling` of benchmarks/results/first_start/first_start.json, from
which docs/first_start.md is written. The caches on disk are neither read nor written. What is compiled inside another
kernel counts for itself alone; parts that are not shared count for the first that needs them.
"""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path
from typing import Any

from numba.core import event

from benchmarks.report import machine
from samplerd_server import precompile
from samplerd_server.sampling.kernels.code_cache import KernelCache

__all__ = ["main"]

_RESULT = Path(__file__).parent / "results" / "first_start" / "first_start.json"


class _Clock(event.Listener):
    """Adds up processor time for whatever has a cache of its own: the rest counts for what it is compiled for."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._open: list[tuple[str, float]] = []
        """Name, and processor time that was used inside by others of them."""
        self._began: list[float] = []

    def on_start(self, event: event.Event) -> None:
        """Begin with one more."""
        dispatcher = event.data["dispatcher"]
        if isinstance(dispatcher._cache, KernelCache):  # noqa: SLF001  # as numba names it
            self._open.append((dispatcher.py_func.__name__.lstrip("_"), 0.0))
            self._began.append(time.process_time())

    def on_end(self, event: event.Event) -> None:
        """Note what it took by itself."""
        if isinstance(event.data["dispatcher"]._cache, KernelCache):  # noqa: SLF001  # as above
            whole = time.process_time() - self._began.pop()
            name, inside = self._open.pop()
            self.seconds[name] = self.seconds.get(name, 0.0) + whole - inside
            if self._open:
                around, before = self._open[-1]
                self._open[-1] = around, before + whole


def _compile() -> dict[str, Any]:
    clock = _Clock()
    event.register("numba:compile", clock)  # type: ignore[no-untyped-call]
    setattr(KernelCache, "load_overload", lambda *_: None)  # noqa: B010  # a method
    setattr(KernelCache, "save_overload", lambda *_: None)  # noqa: B010  # a method
    began = time.process_time()
    for step in precompile.STEPS:
        for own in step:
            own()
    return {
        "processor_s": round(time.process_time() - began, 1),
        "max_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        "processor_s_by_kernel": {name: round(own, 1) for name, own in clock.seconds.items()},
    }


def main() -> None:
    """Measure and store."""
    about = machine() | {"command": "python -m benchmarks.first_start"}
    result = json.loads(_RESULT.read_text(encoding="utf-8"))
    result["compiling"] = {**_compile(), "machine": about}
    _RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result["compiling"], indent=1))  # a command


if __name__ == "__main__":
    main()
