"""Calls of no RPC of ours are counted by what they are of."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from samplerd_server.app.app import App
from samplerd_server.config import MetricsConfig, ServerConfig, TransportConfig
from tests.support.engine import HeldSampler, StubEngine


@pytest.fixture
async def app() -> App:
    config = ServerConfig(transport=TransportConfig(reflection=True), metrics=MetricsConfig(listen=""))
    return App(config, StubEngine(HeldSampler()), asyncio.get_running_loop())  # type: ignore[arg-type]


def look_up(app, path):
    details = SimpleNamespace(method=path, invocation_metadata=())
    found = (handler.service(details) for handler in app.handlers.generic)
    return next((handler for handler in found if handler is not None), None)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/grpc.health.v1.Health/Check", "health"),
        ("/grpc.health.v1.Health/Watch", "health"),
        ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "reflection"),
        ("/samplerd.v1.SamplerService/NoSuchMethod", "unknown"),
        ("/no.such.Service/Sample", "unknown"),
        ("/samplerd.v1.SamplerService/Sample", None),
    ],
)
async def test_a_call_counts_once_and_as_what_it_is(app, path, kind):
    for _ in range(2):
        assert (look_up(app, path) is None) == (kind == "unknown")
    counted = {known: app.metrics.other_calls.value(known) for known in ("health", "reflection", "unknown")}
    assert counted == {known: 2.0 * (known == kind) for known in counted}
