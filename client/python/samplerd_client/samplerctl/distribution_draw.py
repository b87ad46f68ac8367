"""``samplerctl distribution draw``: any number of samples, written as they come, with progress on standard error.

Rule 1: memory holds one chunk, whatever the number. Rule 2: whoever stops it is told how to go on.
"""

from __future__ import annotations

import io
import sys
import time
from contextlib import ExitStack, aclosing
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from samplerd_client.samplerctl import render
from samplerd_client.samplerctl.inputs import InputError
from samplerd_client.samplerctl.sampling_flags import sampling_options

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncGenerator

    from numpy.typing import NDArray

    from samplerd_client.client import SamplerClient
    from samplerd_client.options import SampleOptions
    from samplerd_client.result import SampleChunk

__all__ = ["draw"]

_MOST_IN_A_CALL = 1 << 31
"""Draws of one row in a call: num_samples has 32 bits. More are the draws of several calls, one after the other."""
_TELL_EVERY_S = 0.2


async def draw(client: SamplerClient, args: argparse.Namespace) -> None:
    """Draw and write.

    Raises:
        InputError: the output is not fit for a terminal.

    """
    options: SampleOptions = {"distribution": args.name, "seed": args.seed, **sampling_options(args)}
    rows = (await client.get_distribution(args.name)).rows
    with ExitStack() as stack:
        output: BinaryIO = sys.stdout.buffer
        if args.output_file not in {None, "-"}:
            output = stack.enter_context(_open(args.output_file))
        elif args.output == "npy" and sys.stdout.isatty():
            raise InputError("--output npy writes bytes: give a file with -o, or send standard output elsewhere")
        progress = stack.enter_context(_Progress(rows, args.num_samples, args.draw_offset))
        if args.output == "npy":
            _write(output, _npy_header(rows, args.num_samples))
            if output is not sys.stdout.buffer and output.seekable() and rows == 1:
                stack.callback(lambda: _rewrite_header(output, progress.done))
        async with aclosing(_chunks(client, options, rows, args.num_samples, args.draw_offset)) as chunks:
            async for chunk in chunks:
                samples = chunk.samples.astype("<i4", copy=False)
                _write(output, samples.tobytes() if args.output == "npy" else _lines(samples))
                progress.add(chunk)
        output.flush()


def _open(path: str) -> BinaryIO:
    return Path(path).open("wb")


async def _chunks(
    client: SamplerClient, options: SampleOptions, rows: int, num_samples: int, draw_offset: int
) -> AsyncGenerator[SampleChunk, None]:
    """Yield the chunks of a draw; a draw of one row may be longer than a call holds."""
    most = _MOST_IN_A_CALL if rows == 1 else num_samples
    for done in range(0, num_samples, most):
        own: SampleOptions = {
            **options,
            "num_samples": min(most, num_samples - done),
            "draw_offset": draw_offset + done,
        }
        async with aclosing(client.draw_chunks(**own)) as chunks:
            async for chunk in chunks:
                options["seed"] = chunk.seed  # a seed that the server chose holds for all calls
                yield chunk


def _npy_header(rows: int, num_samples: int) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<i4", "fortran_order": False, "shape": (rows, num_samples)})
    return buffer.getvalue()


def _rewrite_header(output: BinaryIO, num_samples: int) -> None:
    """Let the header say how many samples there are, so that a file whose draw was interrupted can be read."""
    output.seek(0)
    _write(output, _npy_header(1, num_samples))


def _lines(samples: NDArray[np.int32]) -> bytes:
    return ("\n".join(map(str, samples.tolist())) + "\n").encode()


def _write(output: BinaryIO, data: bytes) -> None:
    left = memoryview(data)
    while left:  # with PYTHONUNBUFFERED a pipe takes no more at once than it has room for
        left = left[output.write(left) :]


class _Progress:
    """Tells on standard error how far a draw is: a line that changes on a terminal, and one at the end."""

    def __init__(self, rows: int, num_samples: int, draw_offset: int) -> None:
        self._rows = rows
        self._total = rows * num_samples
        self._draw_offset = draw_offset
        self.done = 0
        """Samples that were written."""
        self._seed: int | None = None
        self._began = self._told = time.monotonic()

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")
        if self._seed is None:
            return
        sys.stderr.write(f"samplerctl: {self._text()}, seed {self._seed}\n")
        if self.done < self._total and self._rows == 1:
            go_on = f"--seed {self._seed} --draw-offset {self._draw_offset + self.done}"
            sys.stderr.write(f"samplerctl: to go on: -n {self._total - self.done} {go_on}\n")

    def add(self, chunk: SampleChunk) -> None:
        """Count a chunk that was written."""
        self.done += len(chunk.samples)
        self._seed = chunk.seed
        now = time.monotonic()
        if sys.stderr.isatty() and now - self._told >= _TELL_EVERY_S:
            self._told = now
            sys.stderr.write(f"\r\x1b[K{self._text()} ({self.done / self._total:.0%})")
            sys.stderr.flush()

    def _text(self) -> str:
        seconds = max(time.monotonic() - self._began, 1e-9)
        done = f"{render.count(self.done)} of {render.count(self._total)} samples"
        return f"{done} in {seconds:.1f} s, {render.count(self.done / seconds)} a second"
