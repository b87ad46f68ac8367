"""Compiling says how far it is, so that nobody takes a long kernel for a hang."""

from __future__ import annotations

import logging

from samplerd_server.sampling.kernels import progress


def test_a_long_kernel_is_told_of_while_it_is_compiled(monkeypatch, caplog):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    own = progress.Progress()
    with caplog.at_level(logging.INFO, "samplerd.kernels"):
        for now[0] in (1.0, 4.0, 6.0, 7.0, 12.0):
            own.on_end(None)
    told = [record.getMessage() for record in caplog.records]
    assert told == ["compiling: 3 parts of kernels so far", "compiling: 5 parts of kernels so far"]
