"""The file from a supervisor to its child."""

from __future__ import annotations

import stat
from dataclasses import replace

import pytest

from samplerd_server.config import ConfigError, ServerConfig, WorkerConfig
from samplerd_server.config.flags import parse
from samplerd_server.config.handoff import read_handoff, write_handoff
from samplerd_server.config.sources import read_file

WORKER = WorkerConfig(index=1, count=3, control=9, metrics_socket='/tmp/a "b" \x7f ü.sock', started_at_s=12.25)


@pytest.mark.parametrize("worker", [None, WORKER])
def test_what_is_written_is_read(tmp_path, worker):
    config = replace(parse(["--threads=3", "--listen=127.0.0.1:7"]).config, worker=worker)
    write_handoff(config, tmp_path / "file")
    assert read_handoff(tmp_path / "file") == config
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


def test_a_worker_reads_nothing_else(tmp_path, monkeypatch):
    write_handoff(replace(ServerConfig(), worker=WORKER), tmp_path / "file")
    monkeypatch.setenv("SAMPLERD_THREADS", "none")
    assert parse(["--worker", str(tmp_path / "file")]).config.worker == WORKER


def test_a_users_file_cannot_make_a_worker(tmp_path):
    path = tmp_path / "file"
    write_handoff(replace(ServerConfig(), worker=WORKER), path)
    with pytest.raises(ConfigError, match=r"unknown section \[worker\]"):
        read_file(str(path))
