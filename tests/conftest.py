"""Settings of all tests, and the one rule of selection that marker expressions cannot undo."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from samplerd_server.config.environment import interpret_kernels
from samplerd_server.sampling.kernels import linked

# Other work on the machine must not make an example look slow.
settings.register_profile("samplerd", deadline=None)
settings.load_profile("samplerd")


# In this process kernels are numba's, parts of which tests call by themselves; servers that they start use linked ones.
linked.use = lambda: False

ASKED_FOR = {
    "deploy": "run the tests of deploy/, which need tools installed under build/deploy; without those they fail",
    "gpu": "run the tests that need a CUDA device; without one they fail",
    "interpret": "run more of the kernels for a GPU in Triton's interpreter, which takes minutes",
    "package": "run the tests that use the clients as they would be published; without those they fail",
    "page": "run the tests of the page in a browser; without Chromium they fail",
    "peer": "run the tests that need other samplers installed under build/peers; without them they fail",
    "ranges": "run the tests that need the dependencies installed under build/ranges; without them they fail",
    "ray": "run the tests that need Ray installed under build/ray; without it they fail",
    "stock": "run the tests that need stock clients installed under build/stock-clients; without them they fail",
}
"""Markers of tests that run only when an option of the same name is given."""


SERVERS = Path(__file__).parent / "integration"
"""The tests that start servers run one after the other in one process of pytest, beside all others in the second."""


DISTURBED = ("deploy", "integration", "packages", "page", "ranges", "unit")
"""Folders of tests of which some start processes or threads and wait for them, which other work can disturb."""


def pytest_addoption(parser: pytest.Parser) -> None:
    for marker, text in ASKED_FOR.items():
        parser.addoption(f"--{marker}", action="store_true", help=text)
    parser.addoption(
        "--again",
        action="store_true",
        help="run a test that may start processes or threads once more if it fails, and list it: it may be disturbed",
    )
    parser.addoption("--doors", default="0", help="doors of the server that most tests of integration/ share; 0 = none")


def pytest_configure(config: pytest.Config) -> None:
    """Let triton interpret in this process, which is decided when the first module of any test imports it."""
    if not config.getoption("--gpu"):
        interpret_kernels()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what no option asks for, whatever -m says: -m 'not slow' must not bring in tests that need a GPU."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(SERVERS):
            item.add_marker(pytest.mark.xdist_group("servers"))
        if config.getoption("--again") and any(map(item.path.is_relative_to, map(here.joinpath, DISTURBED))):
            item.add_marker(pytest.mark.flaky(reruns=1))
    unasked = [marker for marker in ASKED_FOR if not config.getoption(f"--{marker}")]
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        # Doors share TCP ports, not Unix sockets.
        is_unasked = config.getoption("--doors") != "0" and _params_of(item).get("address") == "unix"
        is_unasked |= any(item.get_closest_marker(marker) is not None for marker in unasked)
        (left_out if is_unasked else kept).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


def _params_of(item: pytest.Item) -> dict[str, object]:
    return item.callspec.params if hasattr(item, "callspec") else {}
