"""Links the kernels that this process has compiled or loaded, and saves them for processes that compile nothing."""

from __future__ import annotations

import logging

from samplerd_server.sampling.kernels.elf_linker import link
from samplerd_server.sampling.kernels.elf_object import LinkError
from samplerd_server.sampling.kernels.linked import save
from samplerd_server.sampling.kernels.linked_file import kernel_names
from samplerd_server.sampling.kernels.linked_runtime import runtime_object
from samplerd_server.sampling.kernels.numba_jit import ENTRY_POINTS
from samplerd_server.sampling.kernels.object_code import known_object
from samplerd_server.sampling.kernels.shared_parts import all_parts

__all__ = ["save_linked"]

_LOG = logging.getLogger("samplerd.kernels")


def save_linked() -> bool:
    """Link all kernels and save them (linked.py); returns whether they were saved.

    It is not done where a kernel is missing, imported or not, or where the linker is asked for what it does not know.
    """
    dispatchers = [
        own for own in (*all_parts(), *ENTRY_POINTS) if own.py_func.__module__.startswith("samplerd_server.")
    ]
    libraries = [compiled.library for own in dispatchers for compiled in own.overloads.values()]
    objects = [made for library in libraries if (made := known_object(library)) is not None]
    names = {own.name for own in objects}
    imported = {f"{own.py_func.__module__}.{own.py_func.__qualname__}" for own in dispatchers}
    if names != imported or kernel_names() - names:
        return False
    try:
        return save(objects, link, runtime_object())
    except LinkError as error:
        _LOG.warning("kernels are not linked, so every start imports the compiler: %s", error)
        return False
