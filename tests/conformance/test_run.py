"""What runs the runners: it believes servers more than it believes a runner."""

import contextlib
import json

import grpc
import pytest
from grpc_health.v1 import health_pb2

from client.conformance.fleet import ANSWERS, SERVICE, Fleet
from client.conformance.generate import PATH
from client.conformance.run import _LEFT, Servers, _was_left, run_language
from client.conformance.servers import RefusingServer
from client.conformance.table import FEATURES, Outcome, write_table
from samplerd.v1 import sampler_pb2 as pb
from samplerd.v1 import sampler_pb2_grpc as pb_grpc


@pytest.mark.parametrize("transport", ["grpcio", "envoy"])
def test_the_python_client_passes(transport, tmp_path):
    with contextlib.ExitStack() as stack:
        outcomes = run_language("python", Servers(transport, stack, tmp_path))
    assert {feature: outcome.state for feature, outcome in outcomes.items()} == dict.fromkeys(FEATURES, "pass"), (
        outcomes
    )


def ask(target, *numbers):
    with grpc.insecure_channel(target) as channel:
        for number in numbers:
            with contextlib.suppress(grpc.RpcError):
                pb_grpc.SamplerServiceStub(channel).Sample(pb.SampleRequest(id=number), timeout=10)


@pytest.mark.parametrize(
    ("numbers", "complaint"),
    [
        ([], "0 times"),
        ([1], "1 times"),
        ([1, 1, 1, 2, 3], "before the pushback"),
        ([4], "request 4, which the server cancelled, came 1 times"),
    ],
)
def test_a_client_that_retries_wrongly_is_told(numbers, complaint):
    with RefusingServer() as server:
        if 4 in numbers:
            server.asked[1] = [0.0, 0.1, 0.2]
        ask(server.target, *numbers)
        assert complaint in server.complaint()


@pytest.mark.parametrize("numbers", [[2, 2, 3], [2, 3, 3], [2], [3]])
def test_a_client_that_never_or_always_comes_back_is_told(numbers):
    with RefusingServer() as server:
        server.asked[1] = [0.0, 0.1, 0.2]
        ask(server.target, 4, 4, 4, *numbers)
        assert "did not come exactly once" in server.complaint()


def test_a_client_that_does_as_it_is_told():
    with RefusingServer() as server:
        server.asked[1] = [0.0, 0.1, 0.2]
        ask(server.target, 2, 3, 4, 4, 4)
        assert server.complaint() == ""


def draw(target, distribution="", times=1):
    with grpc.insecure_channel(target) as channel:
        for _ in range(times):
            request = pb.SampleRequest(distribution=distribution) if distribution else pb.SampleRequest()
            with contextlib.suppress(grpc.RpcError):
                pb_grpc.SamplerServiceStub(channel).Sample(request, timeout=10)


def test_a_budget_and_connections_are_counted():
    with RefusingServer() as server:
        draw(server.target, "outage", 61)
        assert "asked 61 times, not 62" in server.overspent()
        draw(server.target, "outage")
        assert server.overspent() == ""
        draw(server.target, "connections", 5)
        assert "over 1 connections, not 4" in server.missing_connections()
        server.peers |= {"a", "b", "c"}
        assert server.missing_connections() == ""


def draw_large(target, *names, named=True):
    """Draw from these distributions, leaving each after its first chunk, and ask whether the last one has ended."""
    with grpc.insecure_channel(target) as channel:
        service = pb_grpc.SamplerServiceStub(channel)
        for name in names:
            metadata = (("x-samplerd-distribution", name),) if named else ()
            call = service.SampleDistribution(pb.SampleRequest(distribution=name), timeout=20, metadata=metadata)
            with contextlib.suppress(grpc.RpcError):
                next(call)
            call.cancel()
        if names[-1] == "endless":
            return list(service.Sample(pb.SampleRequest(distribution="left"), timeout=40).samples)
    return []


BEGUN = ("broken", "cut", "slow", "silent", "endless")


def test_a_client_that_draws_in_chunks_as_it_is_told():
    with RefusingServer() as server:
        draw_large(server.target, "busy", "busy", "busy")
        server.large.asked["busy"] = [0.0, 0.1, 0.2]
        assert draw_large(server.target, *BEGUN) == [7]
        assert server.large.complaint() == ""


@pytest.mark.parametrize(
    ("names", "waits", "complaint"),
    [
        (("busy", *BEGUN), 0.2, "came 1 times, not 3"),
        (("busy", "busy", "busy", *BEGUN), 0.01, "before the pushback"),
        (("busy", "busy", "busy", "broken", *BEGUN), 0.1, "broken, did not come exactly once"),
        (("busy", "busy", "busy", "slow", "silent", "endless"), 0.1, "broken, cut, did not come exactly once"),
        (("busy", "busy", "busy", "endless", *BEGUN[:-1]), 0.1, "nobody asked whether"),
    ],
)
def test_a_client_that_draws_in_chunks_wrongly_is_told(names, waits, complaint):
    with RefusingServer() as server:
        draw_large(server.target, *names)
        server.large.asked["busy"] = [number * waits for number in range(names.count("busy"))]
        assert complaint in server.large.complaint()


def test_a_client_that_does_not_name_the_distribution_of_a_large_draw_is_told():
    with RefusingServer() as server:
        draw_large(server.target, "busy", "busy", "busy")
        server.large.asked["busy"] = [0.0, 0.1, 0.2]
        draw_large(server.target, *BEGUN, named=False)
        assert "5 draws did not carry x-samplerd-distribution" in server.large.complaint()


def test_a_large_draw_that_nobody_reads_is_told(monkeypatch):
    monkeypatch.setattr("client.conformance.large_draws._END_S", 0.1)
    with RefusingServer() as server, grpc.insecure_channel(server.target) as channel:
        service = pb_grpc.SamplerServiceStub(channel)
        endless = service.SampleDistribution(pb.SampleRequest(distribution="endless"))
        assert next(endless).chunk == 0
        with pytest.raises(grpc.RpcError) as caught:
            service.Sample(pb.SampleRequest(distribution="left"), timeout=20)
        assert "still in flight" in caught.value.details()
        endless.cancel()


class Counters:
    """A samplerd's metrics."""

    def __init__(self, cancelled, held):
        self.values = {_LEFT: cancelled, "samplerd_distribution_bytes": held}

    def total(self, series):
        return self.values[series]


@pytest.mark.parametrize(("cancelled", "held", "is_told"), [(4, 0, False), (3, 0, True), (4, 640, True)])
def test_a_large_draw_that_the_server_still_holds_is_told(monkeypatch, cancelled, held, is_told):
    monkeypatch.setattr("client.conformance.run._FREE_S", 0.0)
    assert bool(_was_left(Counters(cancelled, held), 3)) is is_told


@pytest.mark.parametrize(
    ("draws", "complaint"),
    [
        ((50, 1, 5, 5, 5), "a server that was not serving got 1 draws"),
        ((50, 0, 4, 5, 5), "a server that drained after 5 draws got 4"),
        ((50, 0, 40, 5, 5), "a server that drained after 5 draws got 40"),
        ((50, 0, 5, 4, 5), "a server that goes after 5 draws got 4"),
        ((50, 0, 5, 5, 4), "a server that is frozen after 5 draws got 4"),
        ((49, 0, 5, 5, 5), "two healthy servers got 49 and 136 of 200 draws"),
        ((136, 0, 5, 5, 5), "two healthy servers got 136 and 49 of 200 draws"),
        ((95, 0, 5, 5, 5), "nobody watched the health of"),
    ],
)
def test_a_client_that_spreads_draws_wrongly_is_told(draws, complaint):
    fleet = Fleet()
    servers = (fleet.steady, fleet.starting, fleet.draining, fleet.gone, fleet.frozen)
    for server, number in zip(servers, draws, strict=True):
        server.draws = number
    assert complaint in fleet.complaint()
    for server in servers:
        server.watchers = 1
    if "watched" in complaint:
        assert fleet.complaint() == ""


def watch(channel, service=SERVICE):
    call = channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        health_pb2.HealthCheckRequest.SerializeToString,
        health_pb2.HealthCheckResponse.FromString,
    )
    return call(health_pb2.HealthCheckRequest(service=service), timeout=20)


def test_servers_of_the_fleet_say_how_they_are():
    state = health_pb2.HealthCheckResponse
    with Fleet() as fleet:
        for server, told in ((fleet.steady, state.SERVING), (fleet.starting, state.NOT_SERVING)):
            with grpc.insecure_channel(server.target) as channel:
                assert next(watch(channel)).status == told
                assert next(watch(channel, "")).status == state.SERVICE_UNKNOWN
        with grpc.insecure_channel(fleet.draining.target) as channel:
            health = watch(channel)
            assert next(health).status == state.SERVING
            draw(fleet.draining.target, times=ANSWERS)
            assert next(health).status == state.NOT_SERVING
        with grpc.insecure_channel(fleet.gone.target) as channel:
            health = watch(channel)
            assert next(health).status == state.SERVING
            draw(fleet.gone.target, times=ANSWERS)
            assert list(health) == []
        draw(fleet.gone.target)
        assert (fleet.draining.draws, fleet.gone.draws) == (ANSWERS, ANSWERS)


def test_the_table(tmp_path):
    path = tmp_path / "README.md"
    marks = ["table: made by make client-table", "end of table", "fields: made by make client-table", "end of fields"]
    path.write_text("before\n<!-- {} -->\nold\n<!-- {} -->\n<!-- {} -->\nold\n<!-- {} -->\nafter\n".format(*marks))
    passed = dict.fromkeys(FEATURES, Outcome("pass", ""))
    broken = {**passed, "tls": Outcome("fail", ""), "retry": Outcome("unsupported", "its gRPC cannot")}
    broken["parameters"] = Outcome("fail", "top_k 5; bad_words of the output")
    broken["drafts"] = Outcome("fail", "")
    found = {"go": {"grpcio": passed, "envoy": passed}, "ruby": {"grpcio": passed, "envoy": broken}}
    assert write_table(path, found, check=True)
    assert "old" in path.read_text()
    assert write_table(path, found)
    assert not write_table(path, found, check=True)
    lines = path.read_text().splitlines()
    assert lines[0] == "before"
    assert lines[-1] == "after"
    [go] = [line for line in lines if line.startswith("| [Go]")]
    assert go.count("yes") == len(FEATURES)
    [ruby] = [line for line in lines if line.startswith("| [Ruby]")]
    assert "yes on grpcio, **fails** on envoy" in ruby
    assert "yes on grpcio, no on envoy" in ruby
    assert "Ruby, retry: its gRPC cannot." in lines
    fields = {line.split("`")[1]: line.split(" | ")[1:] for line in lines if line.startswith("| `")}
    failing = {name for name, (_, ruby) in fields.items() if ruby != "yes |"}
    assert failing == {
        "top_k",
        "bad_words",
        "bad_words_scope",
        "history",
        "prompt_length",
        "VerifyDraftRequest.parents",
    }
    assert all(go == "yes" for go, _ in fields.values())


def test_every_parameter_has_a_row_and_a_case():
    cases = json.loads(PATH.read_text())["parameters"]["cases"]
    tried = {name for case in cases for name in case["params"]}
    assert tried == set(pb.SamplingParams.DESCRIPTOR.fields_by_name) - {"guidance_scale"}
    tried = {name for case in cases for name in case["params"].get("dry", {})}
    assert tried == set(pb.DryParams.DESCRIPTOR.fields_by_name)
