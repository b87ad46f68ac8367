"""What grpcio's main loop waits with: for the future of the next call, where it asks `asyncio.wait` for any of several.

`asyncio.wait` looks at each of them, makes another future, and takes one turn of the event loop more: some 7 us a call.

Rule 1: the name of `asyncio` in grpcio is grpcio's own; where a later version does without it, nothing is replaced.
Rule 2: whatever else waits there, tasks and several futures, waits as before. Rule 3: a call takes one turn of the
event loop at least, so that many that have come do not make others wait for them all.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import ModuleType
from typing import TYPE_CHECKING, Any

from grpc._cython import cygrpc

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["install", "wait"]


async def wait(futures: Collection[asyncio.Future[Any]], **options: Any) -> tuple[set[Any], set[Any]]:
    """Wait as `asyncio.wait` does: a lone future of the event loop without what that takes for many.

    A lone future is cancelled with the task that waits for it.
    """
    if len(futures) == 1:
        [only] = futures
        if type(only) is asyncio.Future:
            if only.done():
                await asyncio.sleep(0)
            else:
                with suppress(Exception):  # whoever waits asks the future, which raises it again
                    await only
            return {only}, set()
    return await asyncio.wait(futures, **options)


def install() -> None:
    """Have grpcio wait in this way."""
    used = getattr(cygrpc, "asyncio", None)
    if used is not asyncio:  # done already, or this grpcio is another one
        return
    own = ModuleType(asyncio.__name__, __doc__)
    own.__dict__.update(vars(asyncio))
    own.wait = wait  # type: ignore[attr-defined]  # asyncio's
    cygrpc.asyncio = own
