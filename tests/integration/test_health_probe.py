"""The image's health check, put to a server and to none."""

import os
import subprocess
import sys

from tests.support.daemon import Daemon
from tests.support.dockerfile import health_probe


def test_the_health_check_tells_a_server_from_none() -> None:
    def probe(port: str) -> int:
        text = health_probe().replace("127.0.0.1:9464", f"127.0.0.1:{port}")
        # A proxy for the world outside must not be asked for this machine's own address.
        environment = os.environ | {"http_proxy": "http://127.0.0.1:1", "no_proxy": ""}
        command = [sys.executable, "-c", text]
        return subprocess.run(command, capture_output=True, check=False, timeout=60, env=environment).returncode

    with Daemon() as daemon:
        assert probe(daemon.metrics_address.rpartition(":")[2]) == 0
    assert probe("1") != 0
