"""``samplerctl bench``: measures the throughput and latency that one client gets from the server.

Closed loop: each of C workers sends its next request when the last one is answered. That measures what C patient
callers see; it does not show what a queue does to callers who come regardless (coordinated omission).
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from array import array
from collections import Counter
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from samplerd_client.arrays import as_rows
from samplerd_client.errors import SamplerdError
from samplerd_client.retry import RetryPolicy
from samplerd_client.samplerctl import render
from samplerd_client.samplerctl.connection import client_of
from samplerd_client.samplerctl.inputs import InputError
from samplerd_client.samplerctl.sampling_flags import sampling_options
from samplerd_client.samplerctl.statistics import percentile
from samplerd_client.shared_memory import SharedMemoryRegion

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable, Callable

    from samplerd_client.info import Limits
    from samplerd_client.result import SampleResult

__all__ = ["Tally", "run"]

INTERRUPTED = 130
"""The exit status after Ctrl-C, as a shell has it."""

_PROGRESS_S = 0.5
_PAYLOADS = 8
"""Number of different requests, so that the server cannot profit from seeing one row all the time."""

_PERCENTILES = (50.0, 90.0, 99.0, 99.9)


@dataclass(slots=True)
class Tally:
    """Latencies and errors that the workers saw. All workers run on one event loop, so there is no lock."""

    rows: int
    """In a request."""
    is_measuring: bool = False
    latencies_s: array[float] = field(default_factory=lambda: array("d"))
    errors: Counter[str] = field(default_factory=Counter)
    failed_rows: int = 0

    def summary(self, elapsed_s: float) -> dict[str, float]:
        """Return the figures, durations in seconds."""
        ordered = np.sort(np.frombuffer(self.latencies_s, dtype=np.float64)) if self.latencies_s else np.empty(0)
        figures: dict[str, float] = {
            "seconds": elapsed_s,
            "requests": len(ordered),
            "requests_per_s": len(ordered) / elapsed_s,
            "rows_per_s": len(ordered) * self.rows / elapsed_s,
            "errors": self.errors.total(),
            "failed_rows": self.failed_rows,
        }
        for percent in _PERCENTILES:
            figures[f"p{percent:g}_s"] = percentile(ordered, percent)
        figures["max_s"] = float(ordered[-1]) if len(ordered) else float("nan")
        return figures


async def run(args: argparse.Namespace) -> int:
    """Load the server, print the figures; 1 when a call failed."""
    if args.coalesce and (args.rows > 1 or args.shared_memory is not None):
        raise InputError(
            "--coalesce works for requests of one row that are not in shared memory; all others are sent alone"
        )
    async with client_of(args) as client:
        _check_limits((await client.server_info()).limits, args)
    generator = np.random.default_rng(0)
    shape = (_PAYLOADS, args.rows, args.vocab_size)
    payloads = generator.standard_normal(shape, dtype=np.float32)
    kind = "f32" if args.dtype == "bf16" else args.dtype  # numpy has no bf16; it is converted call by call
    ready = [payload.astype({"f32": "<f4", "f16": "<f2", "f64": "<f8"}[kind]) for payload in payloads]
    request_bytes = len(as_rows(ready[0], args.dtype).data)
    options = sampling_options(args)
    options["num_samples"] = args.num_samples
    if args.dtype == "bf16":
        options["dtype"] = "bf16"
    tally = Tally(rows=args.rows)
    async with AsyncExitStack() as stack:
        # An overload should be seen, not smoothed away by retries.
        client = await stack.enter_async_context(
            client_of(args, retry=RetryPolicy(max_attempts=1), coalesce=args.coalesce)
        )
        info = await client.server_info()
        sample: Callable[..., Awaitable[SampleResult]] = client.sample
        if args.stream:
            sample = (await stack.enter_async_context(client.stream(max_in_flight=args.concurrency))).sample
        if args.shared_memory is not None:
            region = SharedMemoryRegion(args.shared_memory, slots=args.concurrency, slot_bytes=request_bytes)
            sample = _through(stack.enter_context(region), sample)
        elapsed_s, was_interrupted = await _load(_caller(sample, ready, **options), tally, args)
    if was_interrupted and not elapsed_s:
        sys.stderr.write("samplerctl: interrupted before anything was measured\n")
        return INTERRUPTED
    figures = tally.summary(elapsed_s)
    if args.json:
        finite = {name: value if value == value else None for name, value in figures.items()}  # noqa: PLR0124
        sys.stdout.write(
            json.dumps(finite | {"errors_by_kind": dict(tally.errors), "interrupted": was_interrupted}) + "\n"
        )
    else:
        rows_text = f"{args.rows} x {args.vocab_size:,} {args.dtype} ({render.size(request_bytes)})"
        mode = "one stream" if args.stream else "coalesced" if args.coalesce else "unary"
        mode += "" if args.shared_memory is None else ", shared memory"
        server = f"{args.server}: samplerd {info.version} on {info.device}"
        sys.stdout.write(f"{server}, {mode}, {args.concurrency} in flight, {rows_text}\n\n")
        sys.stdout.write(_report(figures, tally))
    if was_interrupted:
        sys.stderr.write(f"samplerctl: interrupted after {elapsed_s:.1f} of {args.duration:g} s\n")
        return INTERRUPTED
    return 1 if tally.errors else 0


def _check_limits(limits: Limits, args: argparse.Namespace) -> None:
    """Refuse a load of which this server would refuse every request.

    Raises:
        InputError: it is beyond a limit.

    """
    sizes = {"f16": 2, "bf16": 2, "f32": 4, "f64": 8}
    size = args.rows * args.vocab_size * sizes[args.dtype]
    for what, given, most, flag in (
        ("rows in a request (--rows)", args.rows, limits.max_rows_per_request, "max-rows-per-request"),
        ("numbers in a row (--vocab-size)", args.vocab_size, limits.max_vocab_size, "max-vocab-size"),
        (
            "samples in a request",
            args.rows * args.num_samples,
            limits.max_samples_per_request,
            "max-samples-per-request",
        ),
        ("bytes of rows in a request", size, limits.max_message_bytes, "max-message-bytes"),
    ):
        if given > most:
            text = f"{render.count(given)} {what} are more than this server takes: {render.count(most)} (its --{flag})"
            raise InputError(text)


def _through(
    region: SharedMemoryRegion, sample: Callable[..., Awaitable[SampleResult]]
) -> Callable[..., Awaitable[SampleResult]]:
    """Return a `sample` that puts its rows into a region first, as an engine that has them elsewhere would."""

    def put_and_sample(rows: np.ndarray, *, dtype: str | None = None, **options: Any) -> Awaitable[SampleResult]:
        return sample(shared_memory=region.put(rows, dtype), **options)

    return put_and_sample


def _caller(
    sample: Callable[..., Awaitable[SampleResult]], payloads: list[np.ndarray], **options: object
) -> Callable[[int], Awaitable[SampleResult]]:
    return lambda number: sample(payloads[number % len(payloads)], **options)


async def _load(
    call: Callable[[int], Awaitable[SampleResult]], tally: Tally, args: argparse.Namespace
) -> tuple[float, bool]:
    """Run the workers; returns the seconds that were measured, and whether Ctrl-C ended them."""
    stop, interrupted = asyncio.Event(), asyncio.Event()
    elapsed_s = 0.0
    loop = asyncio.get_running_loop()
    # Impossible on another thread than the main one, which then gets the signal as ever.
    with suppress(NotImplementedError, RuntimeError, ValueError):
        loop.add_signal_handler(signal.SIGINT, interrupted.set)
    workers = [asyncio.create_task(_work(call, tally, stop, first)) for first in range(args.concurrency)]
    try:
        await _wait(interrupted, args.warm_up)
        tally.is_measuring = True
        start_s = time.perf_counter()
        while not interrupted.is_set() and (left_s := start_s + args.duration - time.perf_counter()) > 0:
            await _wait(interrupted, min(_PROGRESS_S, left_s))
            elapsed_s = time.perf_counter() - start_s
            _progress(tally, elapsed_s, args.duration)
        tally.is_measuring = False
    finally:
        with suppress(NotImplementedError):
            loop.remove_signal_handler(signal.SIGINT)
        stop.set()
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")
    for worker in workers:
        if not worker.cancelled() and (error := worker.exception()) is not None:
            raise error
    return elapsed_s, interrupted.is_set()


async def _wait(interrupted: asyncio.Event, seconds: float) -> None:
    """Sleep, but not past an interrupt."""
    with suppress(TimeoutError):
        await asyncio.wait_for(interrupted.wait(), seconds)


async def _work(call: Callable[[int], Awaitable[SampleResult]], tally: Tally, stop: asyncio.Event, first: int) -> None:
    number = first
    while not stop.is_set():
        start_s = time.perf_counter()
        try:
            result = await call(number)
        except SamplerdError as error:
            if tally.is_measuring:
                tally.errors[type(error).__name__] += 1
            await asyncio.sleep(0.001)  # a server that refuses everything must not make this a busy loop
        else:
            if tally.is_measuring:
                tally.latencies_s.append(time.perf_counter() - start_s)
                tally.failed_rows += len(result.row_errors)
        number += 1


def _progress(tally: Tally, elapsed_s: float, duration_s: float) -> None:
    """Draw the live line, on a terminal only."""
    if not sys.stderr.isatty():
        return
    recent = np.sort(np.array(tally.latencies_s[-5000:]))
    rate = len(tally.latencies_s) * tally.rows / elapsed_s
    text = (
        f"{elapsed_s:5.1f} / {duration_s:.0f} s   {render.count(rate)} rows/s"
        f"   p50 {render.milliseconds(percentile(recent, 50.0))}   p99 {render.milliseconds(percentile(recent, 99.0))}"
        f"   errors {tally.errors.total()}"
    )
    sys.stderr.write(f"\r\x1b[K{text}")
    sys.stderr.flush()


def _report(figures: dict[str, float], tally: Tally) -> str:
    rows = [
        ["requests", render.count(figures["requests"])],
        ["requests/s", render.count(figures["requests_per_s"])],
        ["rows/s", render.count(figures["rows_per_s"])],
        *([f"p{percent:g}", render.milliseconds(figures[f"p{percent:g}_s"])] for percent in _PERCENTILES),
        ["max", render.milliseconds(figures["max_s"])],
        ["errors", render.count(figures["errors"])],
    ]
    rows += [[f"  {name}", render.count(times)] for name, times in tally.errors.most_common()]
    if tally.failed_rows:
        rows.append(["failed rows", render.count(tally.failed_rows)])
    return render.table(["", f"in {figures['seconds']:.1f} s"], rows, "<>") + "\n"
