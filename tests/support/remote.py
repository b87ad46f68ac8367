"""Looking into another process as if its objects were here: what is plain is copied, of the rest only a handle comes.

`offer` runs there, `Remote` here. Attributes, calls, iteration and indexing; each is one question and one answer.
"""

from __future__ import annotations

import asyncio
import inspect
import operator
import threading
from collections.abc import Iterator
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any

_PLAIN = (int, float, str, bytes, bool, type(None))
_QUESTIONS = {
    "attribute": getattr,
    "call": lambda target, arguments, named: target(*arguments, **named),
    "items": list,
    "item": operator.getitem,
    "length": len,
}


def offer(path: Path, root: Any, loop: asyncio.AbstractEventLoop, waits: type) -> None:
    """Answer questions about an object, on its event loop; methods of the class `waits` may block, so not on it."""
    handles: list[Any] = [root]

    def answer(handle: int, question: str, arguments: tuple[Any, ...]) -> Any:
        target = handles[handle]
        action = _QUESTIONS[question]
        if isinstance(getattr(target, "__self__", target), waits):
            return action(target, *arguments)

        async def run() -> Any:
            result = action(target, *arguments)
            return await result if inspect.isawaitable(result) else result

        return asyncio.run_coroutine_threadsafe(run(), loop).result()

    def pack(value: Any) -> Any:
        if isinstance(value, _PLAIN):
            return ("plain", value)
        if isinstance(value, (list, tuple)):
            return (type(value).__name__, [pack(item) for item in value])
        handles.append(value)
        return ("handle", len(handles) - 1)

    def talk(connection: Connection) -> None:
        while True:
            try:
                question = connection.recv()
            except EOFError:
                return
            try:
                connection.send(pack(answer(*question)))
            except Exception as error:  # noqa: BLE001  # the asker is told
                connection.send(("error", repr(error)))

    def listen(listener: Listener) -> None:
        while True:
            threading.Thread(target=talk, args=(listener.accept(),), daemon=True).start()

    threading.Thread(target=listen, args=(Listener(str(path), "AF_UNIX"),), daemon=True).start()


class _Line:
    """The connections of the threads that ask."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._own = threading.local()

    def ask(self, *question: Any) -> Any:
        if not hasattr(self._own, "connection"):
            self._own.connection = Client(str(self._path), "AF_UNIX")
        self._own.connection.send(question)
        return self._unpack(self._own.connection.recv())

    def _unpack(self, packed: tuple[str, Any]) -> Any:
        kind, value = packed
        if kind == "error":
            raise RuntimeError(f"over there: {value}")
        if kind in {"list", "tuple"}:
            items = [self._unpack(item) for item in value]
            return items if kind == "list" else tuple(items)
        return Remote(self, value) if kind == "handle" else value


class Remote:
    """An object over there."""

    def __init__(self, line: _Line, handle: int) -> None:
        self.__dict__["_line"] = line
        self.__dict__["_handle"] = handle

    @classmethod
    def connect(cls, path: Path) -> Remote:
        return cls(_Line(path), 0)

    def __getattr__(self, name: str) -> Any:
        return self._line.ask(self._handle, "attribute", (name,))

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._line.ask(self._handle, "call", (arguments, named))

    def __iter__(self) -> Iterator[Any]:
        return iter(self._line.ask(self._handle, "items", ()))

    def __getitem__(self, key: Any) -> Any:
        return self._line.ask(self._handle, "item", (key,))

    def __len__(self) -> int:
        return self._line.ask(self._handle, "length", ())

    def __eq__(self, other: object) -> bool:
        # Good enough for containers: what is there is compared here.
        return not isinstance(other, Remote) and type(other)(self) == other

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        return len(self) > 0
