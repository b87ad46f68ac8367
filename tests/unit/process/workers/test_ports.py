"""Holding ports: free for workers, taken for everybody else."""

from __future__ import annotations

import socket

import pytest

from samplerd_server.process.workers import ports as ports_module
from samplerd_server.process.workers.ports import PortError, Ports


@pytest.fixture
def ports():
    ports = Ports()
    yield ports
    ports.close()


def listen(address: str, *, shares: bool) -> socket.socket:
    """What a worker does, or with `shares` False any other server."""
    host, _, port = address.rpartition(":")
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shares)
    try:
        one.bind((host, int(port)))
        one.listen()
    except BaseException:
        one.close()
        raise
    return one


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_a_port_is_chosen_and_held_for_workers_alone(ports, host):
    (address,) = ports.hold([f"{host}:0"])
    assert address.startswith(f"{host}:")
    assert not address.endswith(":0")
    with pytest.raises(OSError, match="in use"):
        listen(address, shares=False)
    with listen(address, shares=True), listen(address, shares=True), pytest.raises(OSError, match="in use"):
        listen(address, shares=False)
    # Nor once the workers have gone, for a while or for good.
    with pytest.raises(OSError, match="in use"):
        listen(address, shares=False)
    ports.close()
    listen(address, shares=False).close()


def test_nobody_can_connect_before_a_worker_listens(ports):
    (address,) = ports.hold(["127.0.0.1:0"])
    with socket.socket() as client, pytest.raises(ConnectionRefusedError):
        client.connect(("127.0.0.1", int(address.rpartition(":")[2])))


@pytest.mark.parametrize("shares", [False, True])
def test_a_taken_port_is_named(ports, shares):
    with listen("127.0.0.1:0", shares=shares) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(PortError, match=rf"cannot listen on {address}: is the port taken\?"):
            ports.hold([address])


def test_a_port_that_another_supervisor_holds_is_taken(ports):
    (address,) = ports.hold(["127.0.0.1:0"])
    with pytest.raises(PortError, match="is the port taken"):
        Ports().hold([address])


def test_several_addresses_are_held_and_let_go_together(ports):
    addresses = ports.hold(["127.0.0.1:0", "127.0.0.1:0"])
    assert len(set(addresses)) == 2
    ports.close()
    for address in addresses:
        listen(address, shares=False).close()


@pytest.mark.parametrize("address", ["192.0.2.1:0", "nowhere.invalid:0"])
def test_an_address_of_another_machine_is_named(ports, address):
    with pytest.raises(PortError, match=f"cannot listen on {address}: "):
        ports.hold([address])


def test_ipv6_keeps_its_brackets(ports, monkeypatch):
    # As on a machine with IPv6, whether or not this one has it.
    monkeypatch.setattr(ports_module, "_bind", lambda family, where: listen(f"127.0.0.1:{where[1]}", shares=True))
    (address,) = ports.hold(["[::1]:0"])
    assert address.startswith("[::1]:")
    assert not address.endswith(":0")
