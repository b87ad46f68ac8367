"""The sockets of a server that stops: which of its connections are read, and which end."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
from typing import TYPE_CHECKING

import pytest

from samplerd_server.transport.grpcio.sockets import end_connections, read_again, stop_reading

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WAIT_S = 30.0
pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.skipif(not hasattr(select, "epoll"), reason="only Linux has such descriptors"),
]


class Server:
    """Two connections of an address, and what a server knows them by."""

    def __init__(self, family: int, name: object, opened: contextlib.ExitStack) -> None:
        listening = opened.enter_context(socket.socket(family))
        listening.bind(name)
        listening.listen()
        self.clients = [opened.enter_context(socket.socket(family)) for _ in range(2)]
        self.own: list[socket.socket] = []
        for client in self.clients:
            client.connect(listening.getsockname())
            self.own.append(opened.enter_context(listening.accept()[0]))
        is_unix = family == socket.AF_UNIX
        self.address = f"unix:{name}" if is_unix else "{}:{}".format(*listening.getsockname())
        self.peers = ["unix:" if is_unix else "ipv4:{}:{}".format(*client.getsockname()) for client in self.clients]

    @property
    def ended(self) -> list[bool]:
        """Which of the connections have ended, as their clients see it."""
        return [bool(select.select([client], [], [], 0)[0]) and not client.recv(1) for client in self.clients]

    @property
    def readable(self) -> list[bool]:
        """Which of the connections the server reads from."""
        there = select.select(self.own, [], [], 0)[0]
        return [own in there for own in self.own]


@pytest.fixture
def tcp() -> Iterator[Server]:
    with contextlib.ExitStack() as opened:
        yield Server(socket.AF_INET, ("127.0.0.1", 0), opened)


@pytest.fixture
def unix(tmp_path: Path) -> Iterator[Server]:
    with contextlib.ExitStack() as opened:
        yield Server(socket.AF_UNIX, str(tmp_path / "s.sock"), opened)


async def test_only_the_connections_of_the_peers_that_are_named_are_read_again(tcp):
    stop_reading([tcp.address])
    for client in tcp.clients:
        client.send(b"x")
    assert tcp.readable == [False, False]
    read_again([tcp.address], {tcp.peers[1]})
    assert tcp.readable == [False, True]


async def test_all_are_read_again_if_a_peer_is_not_known(tcp):
    stop_reading([tcp.address])
    for client in tcp.clients:
        client.send(b"x")
    read_again([tcp.address], {""})
    assert tcp.readable == [True, True]


async def test_all_connections_end_but_those_that_go_on(tcp):
    await end_connections([tcp.address], 0.0, 0.0, {tcp.peers[0]})
    assert tcp.ended == [False, True]
    await end_connections([tcp.address], 0.0, 0.0, set())
    assert tcp.ended == [True, True]


async def test_connections_of_other_addresses_go_on(tcp, unix):
    await end_connections([unix.address], 0.0, 0.0, set())
    assert (unix.ended, tcp.ended) == ([True, True], [False, False])


async def test_one_call_to_a_unix_socket_keeps_all_its_connections(tcp, unix):
    await end_connections([tcp.address, unix.address], 0.0, 0.0, {"unix:a name of the caller's own"})
    assert (unix.ended, tcp.ended) == ([False, False], [True, True])


async def test_a_connection_to_a_unix_socket_ends_once_its_client_has_read_all(unix):
    unix.own[0].send(b"x")
    async with asyncio.timeout(WAIT_S):
        ending = asyncio.create_task(end_connections([unix.address], WAIT_S, 0.0, set()))
        while not select.select([unix.clients[1]], [], [], 0)[0]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert not ending.done()
        assert unix.ended == [False, True]  # this reads the byte
        await ending
    assert unix.ended == [True, True]


async def test_what_was_written_arrives_although_its_client_sends_what_nobody_reads(tcp):
    """Otherwise the system resets the connection, and discards it."""
    stop_reading([tcp.address])
    data = bytes(1 << 18)
    tcp.clients[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
    tcp.own[0].setblocking(False)
    sent = tcp.own[0].send(data)
    tcp.clients[0].send(b"a call that nobody reads")
    async with asyncio.timeout(WAIT_S):
        ending = asyncio.create_task(end_connections([tcp.address], 0.1, WAIT_S, set()))
        while True:
            if select.select([tcp.clients[1]], [], [], 0)[0]:  # the other one has been told that no more comes
                break
            await asyncio.sleep(0.01)
        assert not ending.done()
        received = 0
        while part := await asyncio.to_thread(tcp.clients[0].recv, 1 << 16):
            received += len(part)
        assert received == sent
        tcp.clients[0].close()
        tcp.clients[1].close()
        await ending
