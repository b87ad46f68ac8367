"""Which calls are traced, and what the settings of traces are."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from samplerd_server import __main__ as daemon
from samplerd_server.config import ConfigError, ServerConfig
from samplerd_server.config.flags import parse
from samplerd_server.process import extras
from samplerd_server.process import tracing as process_tracing
from samplerd_server.process.extras import complaint_of_missing_packages
from samplerd_server.process.tracing import Parent, Tracing, make_tracing, read_parent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
KNOWN = Parent(int(TRACE, 16), int(SPAN, 16))


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (f"00-{TRACE}-{SPAN}-01", (KNOWN, True)),
        (f"00-{TRACE}-{SPAN}-00", (KNOWN, False)),
        (f"00-{TRACE}-{SPAN}-03", (KNOWN, True)),
        (f"cc-{TRACE}-{SPAN}-01-what-comes-later", (KNOWN, True)),
        (f"00-{TRACE}-{SPAN}-01-more", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        (f"00-{TRACE}-{SPAN}", None),
        ("x" * 10_000, None),
    ],
)
def test_traceparent_is_read_as_w3c_has_it(header, found):
    assert read_parent(header) == found


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("vendor=value", [("vendor", "value")]),
        (" a=1 ,, 1t@v=x y!\t,", [("a", "1"), ("1t@v", "x y!")]),
        (",".join(f"k{n}=v" for n in range(32)), [(f"k{n}", "v") for n in range(32)]),
        (",".join(f"k{n}=v" for n in range(33)), []),
        ("", []),
        ("a=1,a=2", []),
        ("a=1,made up line level=error", []),
        ("a=1\n", []),
        ("A=1", []),
        ("x" * 10_000, []),
    ],
)
def test_tracestate_is_handed_on_or_left_out_without_a_line(header, found, caplog):
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    Tracing(1.0, provider, "cpu").call(
        "/a/b", KNOWN._replace(state=header), {}, began_s=0.0, events=(), batches=(), is_error=False
    )
    [span] = exporter.get_finished_spans()
    assert list(span.parent.trace_state.items()) == found
    assert not caplog.records, "a client chose what is logged"


class Provider:
    def get_tracer(self, _name):
        return None


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_callers_decide_and_chance_does_where_they_do_not(share):
    tracing = Tracing(share, Provider(), "cpu")
    assert tracing.decide(f"00-{TRACE}-{SPAN}-01", "a=b") == KNOWN._replace(state="a=b")
    assert tracing.decide(f"00-{TRACE}-{SPAN}-00", "") is None
    own = Parent(0) if share else None
    assert tracing.decide("", "") == tracing.decide("nonsense", "") == own


def test_a_share_of_the_calls_is_traced():
    tracing = Tracing(0.25, Provider(), "cpu")
    traced = sum(tracing.decide("", "") is not None for _ in range(4000))
    # Binomial with n = 4000 and p = 0.25: ten standard deviations are 274.
    assert 726 < traced < 1274


@pytest.mark.parametrize("is_over", [True, False])
def test_a_collector_that_hangs_is_waited_for_until_the_grace_is_over(monkeypatch, is_over):
    monkeypatch.setattr(process_tracing, "_LEAST_S", 0.01, raising=False)
    provider, answers, has_ended = Provider(), threading.Event(), threading.Event()

    def shutdown():
        answers.wait(30 if is_over else 0.05)
        has_ended.set()

    provider.shutdown = shutdown
    Tracing(1.0, provider, "cpu").stop(time.monotonic() + (-1 if is_over else 60))
    assert has_ended.is_set() != is_over
    answers.set()


def endpoint(*flags: str) -> str:
    return parse(flags).config.tracing.endpoint


@pytest.fixture
def no_variables(monkeypatch):
    for name in ("ENDPOINT", "TRACES_ENDPOINT", "PROTOCOL", "TRACES_PROTOCOL"):
        monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_{name}", raising=False)


@pytest.mark.usefixtures("no_variables")
def test_variables_of_opentelemetry_name_the_collector(monkeypatch, tmp_path):
    assert endpoint() == ""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4318/")
    assert endpoint() == "http://a:4318/v1/traces"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://b/exact")
    assert endpoint() == "http://b/exact"
    (tmp_path / "file").write_text('[tracing]\ntrace_endpoint = "off"\n')
    assert endpoint("--config", str(tmp_path / "file")) == ""
    monkeypatch.setenv("SAMPLERD_TRACE_ENDPOINT", "http://c")
    assert endpoint() == "http://c"
    assert endpoint("--trace-endpoint", "off") == ""
    monkeypatch.delenv("SAMPLERD_TRACE_ENDPOINT")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    assert endpoint() == ""


@pytest.mark.usefixtures("no_variables")
def test_a_variable_of_opentelemetry_that_is_no_url_costs_a_warning(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318")
    command = parse([])
    assert (command.config.tracing.endpoint, command.offered_by) == ("", "")
    [warning] = command.warnings
    assert warning.startswith(
        "no traces are sent: OTEL_EXPORTER_OTLP_ENDPOINT: its value is not allowed: expected a URL"
    )
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc")
    assert parse([]).warnings == (
        "no traces are sent: OTEL_EXPORTER_OTLP_TRACES_PROTOCOL is 'grpc', and samplerd speaks http/protobuf",
    )
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf")
    assert parse([]).offered_by == "OTEL_EXPORTER_OTLP_ENDPOINT"
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT")
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
    assert parse([]).warnings == (), "nothing was asked for"


def start(monkeypatch, capsys, *flags: str) -> tuple[int, ServerConfig | None, str]:
    """Start the daemon without OpenTelemetry: its exit code, the settings that it serves with, and what it says."""
    served: list[ServerConfig] = []
    monkeypatch.setattr(extras, "_TRACING", ("opentelemetry.no_such.exporter",))
    monkeypatch.setattr(daemon, "set_up", lambda *_: None)
    monkeypatch.setattr(daemon._LOG, "warning", lambda text: sys.stderr.write(f"{text}\n"))
    monkeypatch.setattr(daemon, "_run", lambda config: served.append(config) or 0)
    status = daemon.main(flags)
    return status, served[0] if served else None, capsys.readouterr().err


@pytest.mark.usefixtures("no_variables")
@pytest.mark.parametrize("variable", ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"])
def test_a_collector_that_is_only_offered_keeps_no_server_from_starting(monkeypatch, capsys, variable):
    monkeypatch.setenv(variable, "http://a:4318")
    status, config, told = start(monkeypatch, capsys)
    assert status == 0
    assert config is not None
    assert config.tracing.endpoint == ""
    assert (
        told == f"{variable} is set, but no traces are sent: OpenTelemetry is missing (pip install 'samplerd[otel]')\n"
    )


@pytest.mark.usefixtures("no_variables")
@pytest.mark.parametrize("way", ["flag", "variable", "file"])
def test_a_collector_that_was_asked_for_is_not_left_out(monkeypatch, capsys, tmp_path, way):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4318")
    flags = []
    if way == "flag":
        flags = ["--trace-endpoint", "http://b"]
    elif way == "variable":
        monkeypatch.setenv("SAMPLERD_TRACE_ENDPOINT", "http://b")
    else:
        (tmp_path / "file").write_text('[tracing]\ntrace_endpoint = "http://b"\n')
        flags = ["--config", str(tmp_path / "file")]
    status, config, told = start(monkeypatch, capsys, *flags)
    assert (status, config) == (2, None)
    assert told == "samplerd: --trace-endpoint needs OpenTelemetry: pip install 'samplerd[otel]'\n"


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        *(
            ("endpoint", own)
            for own in ("collector:4317", "http://[::1", "http://a:99999", "http://:4318", "http://a:0")
        ),
        *(("sample", own) for own in ("1.5", "-0.1", "nan")),
    ],
)
def test_what_is_no_url_and_no_share_is_refused(flag, value):
    with pytest.raises(ConfigError, match=f"--trace-{flag}: .* is not allowed"):
        parse([f"--trace-{flag}", value])


@pytest.mark.parametrize(("name", "value"), [("OTEL_BSP_SCHEDULE_DELAY", "0"), ("OTEL_SPAN_EVENT_COUNT_LIMIT", "many")])
def test_a_variable_that_opentelemetry_cannot_use_is_an_error_of_the_settings(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=r"traces: OpenTelemetry cannot use its variables OTEL_\*: "):
        make_tracing(parse(["--trace-endpoint", "http://127.0.0.1:1"]).config, "1", "cpu")


def test_the_missing_extra_is_named(monkeypatch):
    assert complaint_of_missing_packages(is_traced=True) is None
    monkeypatch.setattr(extras, "_TRACING", ("opentelemetry.sdk", "opentelemetry.no_such.exporter"))
    assert complaint_of_missing_packages() is None
    told = complaint_of_missing_packages(is_traced=True)
    assert told == "--trace-endpoint needs OpenTelemetry: pip install 'samplerd[otel]'"


def test_nothing_is_imported_while_it_is_off():
    code = "import sys, samplerd_server.app.app; sys.exit(any('opentelemetry' in own for own in sys.modules))"
    subprocess.run([sys.executable, "-c", code], check=True)
