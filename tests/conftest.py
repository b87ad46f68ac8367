"""Settings of all tests, and the one rule of selection that marker expressions cannot undo."""

from __future__ import annotations

import pytest
from hypothesis import settings

# Other work on the machine must not make an example look slow.
settings.register_profile("samplerd", deadline=None)
settings.load_profile("samplerd")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--gpu", action="store_true", help="run the tests that need a CUDA device; without one they fail")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave GPU tests out unless --gpu asks for them, whatever -m says: -m 'not slow' must not bring them in."""
    if config.getoption("--gpu"):
        return
    left_out = [item for item in items if item.get_closest_marker("gpu") is not None]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item.get_closest_marker("gpu") is None]
