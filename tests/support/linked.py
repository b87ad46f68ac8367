"""Linked kernels in a process that also has those which numba compiles: tests compare the two."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from samplerd_server.sampling.cdf_index import builder
from samplerd_server.sampling.kernels import linked, linked_file, long_draw, sampler
from samplerd_server.sampling.kernels.linking import save_linked
from samplerd_server.transport.codec import scan, varints
from samplerd_server.transport.codec.compiled import compiled_scan, compiled_varints
from tests.support.cdf_index import make_builder
from tests.support.samplers import make_sampler

__all__ = ["linked_kernels", "linked_path", "with_linked_kernels"]

_CALLERS = (sampler, long_draw, builder, scan, varints)
"""The modules whose functions call kernels."""


@cache
def linked_path() -> Path:
    """The file of linked kernels for these sources, which is made if there is none."""
    found = next((path for path in linked_file.paths() if linked_file.read(path) is not None), None)
    if found is None:
        make_sampler("numba")
        make_builder()
        compiled_scan()
        compiled_varints()
        assert save_linked()
        found = next(path for path in linked_file.paths() if path.exists())
    return found


@cache
def linked_kernels() -> dict[str, Callable[..., Any]]:
    """All of them, by module and name."""
    kernels = linked._load(linked_path())
    assert kernels is not None
    return kernels


@contextmanager
def with_linked_kernels() -> Iterator[set[str]]:
    """Let this process call linked kernels for as long as the block runs; yields the names of those that are called."""
    called: set[str] = set()

    def note(name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            called.add(name)
            return kernel(*arguments)

        return call

    with ExitStack() as stack:
        for name, kernel in linked_kernels().items():
            short = name.rpartition(".")[2]
            for module in _CALLERS:
                if hasattr(module, short):
                    stack.enter_context(mock.patch.object(module, short, note(name, kernel)))
        yield called
