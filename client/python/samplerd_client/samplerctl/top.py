"""``samplerctl top``: what several servers do now, a line each, from their /metrics."""

from __future__ import annotations

import asyncio
import json
import math
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING

from samplerd_client.samplerctl import render
from samplerd_client.samplerctl.metrics_page import Figures, Look, NoAnswerError, figures, look

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

__all__ = ["run"]

_HEADERS = (
    *("server", "rows/s", "requests/s", "rows/batch", "transport", "queue", "compute"),
    *("calls waiting", "rows queued", "shed/s", "failed/s", "workers"),
)
_PATIENCE_S = 1.0
"""A busy server is late with its metrics now and then; one that is frozen does not answer at all."""
_HOME, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"


async def run(args: argparse.Namespace) -> int:
    """Look at all servers every so often, and show what happened since the last time."""
    addresses = args.addresses
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    with suppress(NotImplementedError):  # Windows: Ctrl-C is an exception
        loop.add_signal_handler(signal.SIGINT, ended.set)
    is_live = not args.json and sys.stdout.isatty()
    before: dict[str, Look] = {}
    shown = 0
    watch = _Watch(addresses)
    try:
        while not ended.is_set() and (args.count is None or shown < args.count):
            now = await watch.look()
            if before or any(isinstance(own, NoAnswerError) for own in now.values()):
                _show(before, now, is_live=is_live, is_json=args.json)
                shown += 1
            before = {address: own for address, own in now.items() if isinstance(own, Look)}
            with suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), args.interval)
    finally:
        watch.close()
        with suppress(NotImplementedError):
            loop.remove_signal_handler(signal.SIGINT)
    return 0


class _Watch:
    """Looks at servers, none of which makes the others wait for longer than `_PATIENCE_S`."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = tuple(dict.fromkeys(addresses))
        self._pool = ThreadPoolExecutor(len(addresses))
        self._asked: dict[str, tuple[float, asyncio.Future[Look | NoAnswerError]]] = {}
        """Looks that have no answer yet, and when they began."""

    async def look(self) -> dict[str, Look | NoAnswerError]:
        """Look at every server, unless it has not answered the last time yet."""
        loop = asyncio.get_running_loop()
        for address in self._addresses:
            if address not in self._asked:
                self._asked[address] = (time.monotonic(), loop.run_in_executor(self._pool, _try, address))
        await asyncio.wait([answer for _, answer in self._asked.values()], timeout=_PATIENCE_S)
        return {address: self._take(address) for address in self._addresses}

    def _take(self, address: str) -> Look | NoAnswerError:
        began, answer = self._asked[address]
        if not answer.done():
            return NoAnswerError(f"no answer for {time.monotonic() - began:.0f} s")
        del self._asked[address]
        return answer.result()

    def close(self) -> None:
        """Wait for no answer any more."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _try(address: str) -> Look | NoAnswerError:
    try:
        return look(address)
    except NoAnswerError as error:
        return error


def _show(before: dict[str, Look], now: dict[str, Look | NoAnswerError], *, is_live: bool, is_json: bool) -> None:
    own: dict[str, Figures | str] = {}
    for address, seen in now.items():
        if isinstance(seen, NoAnswerError):
            own[address] = str(seen)
        elif address in before:
            own[address] = figures(before[address], seen)
        else:
            own[address] = "seen for the first time"
    if is_json:
        text = "".join(json.dumps({"server": address} | _record(row)) + "\n" for address, row in own.items())
    else:
        cells = [_cells(address, row) for address, row in own.items() if isinstance(row, Figures)]
        lines = render.table(_HEADERS, cells, "<" + ">" * (len(_HEADERS) - 1)).splitlines() if cells else []
        lines += [f"{address}: {row}" for address, row in own.items() if isinstance(row, str)]
        text = "\n".join([*lines, ""]) + "\n"
    if is_live:
        text = _HOME + text.replace("\n", f"{_CLEAR_LINE}\n") + _CLEAR_BELOW
    sys.stdout.write(text)
    sys.stdout.flush()


def _record(row: Figures | str) -> dict[str, float | str | None]:
    if isinstance(row, str):
        return {"error": row}
    return {name: None if math.isnan(value) else value for name, value in asdict(row).items()}


def _cells(address: str, row: Figures) -> list[str]:
    return [
        address,
        render.count(row.rows_per_s),
        render.count(row.requests_per_s),
        "-" if math.isnan(row.rows_per_batch) else f"{row.rows_per_batch:.1f}",
        *map(render.milliseconds, (row.transport_wait_s, row.queue_wait_s, row.compute_s)),
        render.count(row.waiting_calls),
        render.count(row.queue_rows),
        f"{row.shed_per_s:.1f}",
        f"{row.failed_per_s:.1f}",
        "-" if math.isnan(row.workers_up) else render.count(row.workers_up),
    ]
