"""Logs: none for what is no fault of the server."""

from __future__ import annotations

import json
import logging
import os
import re
import select
import subprocess
import sys

import pytest

from samplerd_server.config import LogConfig
from samplerd_server.process import log
from samplerd_server.process.log import set_up

GRPCIO = logging.getLogger("grpc._cython.cygrpc")


@pytest.fixture
def grpcio(monkeypatch):
    root = logging.getLogger()
    monkeypatch.setattr(log, "_background", None)
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


@pytest.mark.parametrize("kind", ["text", "json"])
def test_times_have_a_zone_and_milliseconds(grpcio, kind):
    set_up(LogConfig(format=kind))
    [handler] = logging.getLogger().handlers
    record = logging.LogRecord("a", logging.INFO, "", 0, "hello", None, None)
    record.created = 1_764_438_312.0627
    line = handler.format(record)
    time = json.loads(line)["time"] if kind == "json" else line.partition(" ")[0]
    assert time == "2025-11-29T17:45:12.062Z"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time)


def test_a_reader_that_stops_does_not_stop_the_process():
    code = """
import logging, os
from samplerd_server.config import LogConfig
from samplerd_server.process import log
log.set_up(LogConfig())
log.event(logging.getLogger(), logging.INFO, "first")
os.set_blocking(2, False)
try:
    while True:
        os.write(2, bytes(4096))
except BlockingIOError:
    os.set_blocking(2, True)
for _ in range(3):
    log.event(logging.getLogger(), logging.INFO, "nobody reads this")
print(log.dropped_lines(), flush=True)
input()
log.event(logging.getLogger(), logging.INFO, "last")
"""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        try:
            ended, _, _ = select.select([process.stdout], [], [], 60)
            assert ended, "it waits for the reader"
            assert process.stdout.readline() == b"3\n"
            text = b""
            while select.select([process.stderr], [], [], 0)[0]:
                text += os.read(process.stderr.fileno(), 1 << 20)
            _, rest = process.communicate(b"\n")
        finally:
            process.kill()
    assert b" first\n" in text
    assert b"nobody" not in text
    assert b" last\n" in rest
