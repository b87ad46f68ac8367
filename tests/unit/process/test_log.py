"""Logs: none for what is no fault of the server."""

from __future__ import annotations

import logging

import pytest

from samplerd_server.config import LogConfig
from samplerd_server.process.log import set_up

GRPCIO = logging.getLogger("grpc._cython.cygrpc")


@pytest.fixture
def grpcio(monkeypatch):
    root = logging.getLogger()
    for logger, name, own in ((root, "handlers", []), (root, "level", root.level), (GRPCIO, "filters", [])):
        monkeypatch.setattr(logger, name, own)
    set_up(LogConfig())
    return GRPCIO


def is_logged(logger: logging.Logger, message: str) -> bool:
    record = logging.makeLogRecord({"name": logger.name, "msg": message + " by servicer method [%s]", "args": ("/x",)})
    return bool(logger.filter(record))


def test_a_call_that_was_over_is_no_error_of_the_server(grpcio):
    assert not is_logged(grpcio, "ExecuteBatchError raised in core")
    assert is_logged(grpcio, "Unexpected [KeyError] raised")
