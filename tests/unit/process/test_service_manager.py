"""What the service manager is told, over a real socket."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from samplerd_server.process.service_manager import ServiceManager
from tests.support.notify import NotifySocket

WAIT_S = 30.0


@pytest.fixture
def heard(tmp_path):
    with NotifySocket(tmp_path) as notify_socket:
        yield notify_socket


def test_the_stages_are_told(heard):
    told = ServiceManager(str(heard.path))
    told.status("starting")
    told.ready("serving on 127.0.0.1:50051")
    told.stopping("draining")
    assert [heard.hear() for _ in range(3)] == [
        {"STATUS": "starting"},
        {"READY": "1", "STATUS": "serving on 127.0.0.1:50051"},
        {"STOPPING": "1", "STATUS": "draining"},
    ]


def test_an_abstract_socket_is_named_with_an_at_sign():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0samplerd-test-{os.getpid()}")
        listening.settimeout(WAIT_S)
        ServiceManager(f"@samplerd-test-{os.getpid()}").ready("up")
        assert listening.recv(100) == b"READY=1\nSTATUS=up"


def test_signs_of_life_are_given_only_where_they_are_expected(heard):
    ServiceManager(str(heard.path)).alive()
    assert heard.has_heard_all()
    ServiceManager(str(heard.path), 8.0).alive()
    assert heard.hear() == {"WATCHDOG": "1"}


async def test_they_are_given_for_as_long_as_it_lives(heard):
    answers = iter([True, False, True])

    async def is_alive() -> bool:
        try:
            return next(answers)
        except StopIteration:
            raise asyncio.CancelledError from None

    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(ServiceManager(str(heard.path), 0.04).beat(is_alive), WAIT_S)
    assert [heard.hear() for _ in range(2)] == [{"WATCHDOG": "1"}] * 2
    assert heard.has_heard_all()


async def test_without_a_watchdog_nothing_beats(heard):
    await asyncio.wait_for(ServiceManager(str(heard.path)).beat(None), WAIT_S)  # type: ignore[arg-type]


def test_a_service_manager_that_does_not_listen_is_ignored(tmp_path):
    ServiceManager(str(tmp_path / "nobody")).ready("up")
    ServiceManager().ready("up")


@pytest.mark.parametrize(
    ("variables", "beat_s"),
    [
        ({}, 0.0),
        ({"WATCHDOG_USEC": "8000000"}, 2.0),
        ({"WATCHDOG_USEC": "8000000", "WATCHDOG_PID": str(os.getpid())}, 2.0),
        ({"WATCHDOG_USEC": "8000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
    ],
)
def test_the_variables_are_read_and_kept_from_children(monkeypatch, heard, variables, beat_s):
    variables = {"NOTIFY_SOCKET": str(heard.path), **variables}
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    manager = ServiceManager.of_environment()
    assert manager.beat_s == beat_s
    assert not variables.keys() & os.environ.keys()
    manager.ready("up")
    assert heard.hear()["READY"] == "1"
