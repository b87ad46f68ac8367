"""A TCP proxy on loopback that passes what the server sends only while it is open: a client that reads slowly."""

from __future__ import annotations

import asyncio
import socket


class Valve:
    """``async with Valve(address) as valve: connect(valve.address)``; it is open at first."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._target = (host, int(port))
        self._is_open = asyncio.Event()
        self._is_open.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.address = ""

    async def __aenter__(self) -> Valve:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = "{}:{}".format(*self._server.sockets[0].getsockname())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def open(self) -> None:
        self._is_open.set()

    def close(self) -> None:
        self._is_open.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        near = socket.socket()
        # So little that a large reply stays in the server.
        near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        near.setblocking(False)
        await asyncio.get_running_loop().sock_connect(near, self._target)
        server_reader, server_writer = await asyncio.open_connection(sock=near, limit=1 << 16)
        always = asyncio.Event()
        always.set()
        for pass_on in (self._pass(reader, server_writer, always), self._pass(server_reader, writer, self._is_open)):
            self._tasks.add(asyncio.ensure_future(pass_on))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event) -> None:
        try:
            while data := await reader.read(1 << 14):
                await gate.wait()
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()
