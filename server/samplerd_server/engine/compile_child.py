"""The child process that compiles the kernels which no cache holds.

Compiling takes the better part of a minute and leaves the compiler's memory behind. In a process of its own it does
neither to the server: the event loop answers health checks meanwhile, and what the compiler took is given back when the
child ends. Rule 1: the child never outlives the server; once the pipe to it is closed, it ends and leaves nothing
behind. Rule 2: whatever goes wrong with it is logged in one line, and the server compiles by itself.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samplerd_server.config.environment import interpreter_environment
from samplerd_server.process.cpu_quota import usable_cores
from samplerd_server.process.log import event
from samplerd_server.process.temporary_folder import make_temporary_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["compiled_ahead"]

_LOG = logging.getLogger("samplerd.engine")
_REPORT_S = 10.0
"""Time between two lines of the log while kernels are compiled."""
_MAX_PROCESSES = 2
"""More would each work out again what kernels share."""


@contextmanager
def compiled_ahead(spare: Path | None = None) -> Iterator[None]:
    """Compile what is missing in a child process; inside the block, the kernels can be loaded.

    Args:
        spare: folder for kernels where no other folder can be written; None = a temporary one, removed afterwards.

    """
    from samplerd_server.sampling.kernels import (  # noqa: PLC0415  # they import numba
        code_cache,
        compile,  # noqa: A004
        shared_parts,
    )

    with ExitStack() as stack:
        if spare is not None:
            stack.enter_context(code_cache.looking_into(spare))
        compiled = [*compile.ENTRY_POINTS, *shared_parts.all_parts()]
        kernels = [own for own in compiled if own.py_func.__module__.startswith("samplerd_server.")]
        missing = _missing(kernels)
        if missing:
            try:
                folder = _folder(missing, spare, stack)
                if folder is not None:
                    stack.enter_context(code_cache.looking_into(folder))
                _compile(kernels, folder, is_temporary=folder != spare)
            except OSError as error:
                event(_LOG, logging.WARNING, "kernels are compiled in this process", cause=error.strerror)
        yield


def _missing(kernels: list[Any]) -> list[Any]:
    return [own for own in kernels if not own._cache.is_stored()]  # noqa: SLF001  # as numba names it


def _folder(missing: list[Any], spare: Path | None, stack: ExitStack) -> Path | None:
    """Give the folder that the child must write to; None = it finds one by itself, as this process would."""
    if all(own._cache.can_save() for own in missing):  # noqa: SLF001  # as above
        return None
    if spare is not None:
        return spare
    return Path(stack.enter_context(make_temporary_folder()))


def _compile(kernels: list[Any], folder: Path | None, *, is_temporary: bool) -> None:
    """Run the child to its end, and say how far it is.

    Args:
        kernels: all of them.
        folder: where it must write; None = it finds a folder.
        is_temporary: whether the child removes the folder if this process ends before it.

    Raises:
        OSError: it cannot be started.

    """
    began = time.monotonic()
    processes = min(_MAX_PROCESSES, usable_cores())
    event(
        _LOG,
        logging.INFO,
        "compiling kernels",
        kernels=len(_missing(kernels)),
        processes=processes,
        usually="1-3min",
        saved="no" if folder else "yes",
    )
    variables = interpreter_environment() | ({} if folder is None else {"NUMBA_CACHE_DIR": str(folder)})
    temporary = [f"--temporary={folder}"] if folder is not None and is_temporary else []
    theirs, ours = os.pipe()
    try:
        child = subprocess.Popen(  # noqa: S603  # this Python
            [*_command(), f"--processes={processes}", "--until-input-ends", *temporary],
            stdin=theirs,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=variables,
            start_new_session=True,  # Ctrl-C in a terminal ends the server, which ends the child
        )
        os.close(theirs)
        theirs = -1
        output = _wait(child, kernels, began)
    finally:
        for own in {theirs, ours} - {-1}:
            os.close(own)
    seconds = f"{time.monotonic() - began:.1f}s"
    if child.returncode == 0:
        event(_LOG, logging.INFO, "compiled kernels", took=seconds)
    else:
        cause = (output.decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
        event(_LOG, logging.WARNING, "kernels are compiled in this process", cause=cause, exit_code=child.returncode)


def _wait(child: subprocess.Popen[bytes], kernels: list[Any], began: float) -> bytes:
    """Wait for the child's end; returns what it wrote to standard error."""
    while True:
        try:
            return child.communicate(timeout=_REPORT_S)[1]
        except subprocess.TimeoutExpired:
            done = len(kernels) - len(_missing(kernels))
            seconds = f"{time.monotonic() - began:.0f}s"
            event(_LOG, logging.INFO, "compiling kernels", done=f"{done} of {len(kernels)}", after=seconds)


def _command() -> list[str]:
    """Give the command of the child. Inside Envoy, the executable of this process is not Python's."""
    python = Path(sys.executable or "")
    if not python.name.startswith("python"):
        python = Path(sys.prefix, "bin", f"python{sys.version_info[0]}.{sys.version_info[1]}")
    return [str(python), "-m", "samplerd_server.precompile"]
