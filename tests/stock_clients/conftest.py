"""One server a transport for all stock clients."""

from __future__ import annotations

import pytest

from tests.support.daemon import Daemon
from tests.support.regions import PREFIX


@pytest.fixture(scope="session", params=["grpcio", "envoy"])
def daemon(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stock")
    flags = ("--shared-memory-prefix", PREFIX, "--transport", request.param)
    if request.param == "grpcio":
        flags += ("--http-listen", "127.0.0.1:0")
    with Daemon(*flags, unix=folder / "samplerd.sock") as daemon:
        yield daemon
