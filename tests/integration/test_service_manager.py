"""A server tells the service manager that started it when it serves, that it lives, and when it ends."""

from __future__ import annotations

import os
import signal

import pytest

from samplerd_client import SyncSamplerClient
from tests.support.daemon import Daemon
from tests.support.notify import NotifySocket
from tests.support.requests import one_hot

# make check-deploy runs it with workers too, whose start is the longest.
WORKERS = pytest.param(("--workers", "2"), marks=pytest.mark.deploy)


@pytest.mark.parametrize("flags", [(), ("--transport", "envoy"), WORKERS])
def test_the_service_manager_hears_of_start_life_and_end(flags, tmp_path):
    with NotifySocket(tmp_path) as heard:
        variables = {**os.environ, "NOTIFY_SOCKET": str(heard.path), "WATCHDOG_USEC": "400000"}
        with Daemon(*flags, env=variables) as daemon:
            until_ready = heard.hear_until("READY")
            assert until_ready[0] == {"STATUS": "starting"}
            # A start that takes long shows that it lives, too.
            others = [own for own in until_ready[1:] if own != {"WATCHDOG": "1"}]
            assert [own.keys() for own in others] == [{"READY", "STATUS"}], "one process speaks, once"
            assert until_ready[-1]["STATUS"] == f"serving on {daemon.address}"
            with SyncSamplerClient(daemon.address) as client:
                assert client.sample(one_hot(1, 100, 7)).samples.tolist() == [[7]]
            # What was sent before is heard first: the last one shows that it goes on.
            assert [heard.hear() for _ in range(3)] == [{"WATCHDOG": "1"}] * 3
            daemon.process.send_signal(signal.SIGTERM)
            assert heard.hear_until("STOPPING")[-1] == {"STOPPING": "1", "STATUS": "draining"}
