"""One server for all packages."""

from __future__ import annotations

import pytest

from tests.support.daemon import Daemon


@pytest.fixture(scope="session")
def daemon():
    with Daemon() as daemon:
        yield daemon
