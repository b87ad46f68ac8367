"""Lines that a thread writes: whoever logs never waits for the reader."""

from __future__ import annotations

import logging
import os
import select
import threading

import pytest

from samplerd_server.process import background_log
from samplerd_server.process.background_log import BackgroundLog


def render(record: logging.LogRecord) -> str:
    return f"{record.getMessage()} {record.values}"


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    yield reader, writer
    for file in (reader, writer):
        os.close(file)


def test_lines_are_written_in_order_and_at_the_end(pipe):
    reader, writer = pipe
    log = BackgroundLog(writer, render)
    for number in range(500):
        log.put("a", logging.INFO, "line", {"n": number})
    log.close()
    assert os.read(reader, 1 << 16).decode().splitlines() == [f"line {{'n': {number}}}" for number in range(500)]
    log.put("a", logging.INFO, "after", {})
    log.close()
    assert os.read(reader, 1 << 16) == b"after {}\n"


@pytest.mark.parametrize("is_blocking", [True, False])
def test_a_reader_that_stops_costs_lines_and_no_time(pipe, monkeypatch, is_blocking):
    monkeypatch.setattr(background_log, "_MAX_WAITING", 8)
    reader, writer = pipe
    os.set_blocking(writer, is_blocking)
    log = BackgroundLog(writer, render)
    for _ in range(3000):  # far more than a pipe holds, and nobody reads
        log.put("a", logging.INFO, "x" * 1000, {})
    assert log.dropped > 2000

    parts = [b""]

    def read() -> None:
        while not parts[-1].endswith(b"end\n"):  # which may come together with what is before it
            parts.append(os.read(reader, 1 << 16))

    reading = threading.Thread(target=read)
    reading.start()
    while log._lines.qsize():
        threading.Event().wait(0.01)
    log.close()
    os.set_blocking(writer, True)
    os.write(writer, b"end\n")
    reading.join(60)
    assert not reading.is_alive()
    text = b"".join(parts).decode()
    written = text.count("x" * 1000)
    assert written + log.dropped == 3000
    left_out = [int(line.partition("'left_out': ")[2].rstrip("}")) for line in text.splitlines() if "left_out" in line]
    assert sum(left_out) == log.dropped


def test_lines_stay_whole_where_workers_share_a_pipe(monkeypatch):
    writes = []
    monkeypatch.setattr(BackgroundLog, "_write", lambda _self, data: writes.append(data))
    log = BackgroundLog(-1, lambda record: record.getMessage())
    for _ in range(200):
        log.put("a", logging.INFO, "x" * 400, {})
    log.close()
    assert b"".join(writes) == (b"x" * 400 + b"\n") * 200
    assert all(data.endswith(b"\n") for data in writes)
    assert max(map(len, writes)) <= select.PIPE_BUF, "a pipe takes it in parts, with those of others between them"


def test_a_reader_that_has_gone_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    log = BackgroundLog(writer, render)
    log.put("a", logging.INFO, "line", {})
    log.close()
    os.close(writer)
    assert (log.dropped, log.lost) == (0, 1)
