"""Each target of the fuzzing with a few inputs, always the same; `make fuzz` goes on from there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fuzz.__main__ import run
from tests.fuzz.served import stop_server
from tests.fuzz.targets import TARGETS

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("numba")


@pytest.fixture(scope="module", autouse=True)
def one_server() -> Iterator[None]:
    """End the server that the targets share."""
    yield
    stop_server()


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_is_found_in_a_few_inputs(name):
    run(name, 0, examples=20)
