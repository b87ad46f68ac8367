"""The configuration: flag > environment > file > default; errors name their setting; what is printed is read back."""

from __future__ import annotations

import tomllib
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplerd_server.__main__ import main
from samplerd_server.config import SECTIONS, ConfigError, ServerConfig
from samplerd_server.config.environment import environment
from samplerd_server.config.flags import parse
from samplerd_server.config.sources import all_settings, read_file, render, resolve

SETTINGS = {setting.flag: (section, name, setting) for section, name, setting, _ in all_settings()}


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in environment():
        monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path):
    def write(text: str) -> str:
        path = tmp_path / "samplerd.toml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_without_any_source_everything_is_default():
    assert parse([]).config == ServerConfig()
    assert not parse([]).check_only


# Each step adds a source that goes before those already there.
def test_a_flag_goes_before_a_variable_before_the_file_before_the_default(monkeypatch, file):
    path = file('[batching]\nmax_batch_rows = 7\n[admission]\nqueue_rows = 70\n[engine]\nkernel = "torch"\n')
    config = parse(["--config", path]).config
    assert (config.batching.max_rows, config.admission.queue_rows, config.engine.kernel) == (7, 70, "torch")
    monkeypatch.setenv("SAMPLERD_MAX_BATCH_ROWS", "8")
    monkeypatch.setenv("SAMPLERD_QUEUE_ROWS", "80")
    config = parse(["--config", path]).config
    assert (config.batching.max_rows, config.admission.queue_rows, config.engine.kernel) == (8, 80, "torch")
    config = parse(["--config", path, "--max-batch-rows", "9"]).config
    assert (config.batching.max_rows, config.admission.queue_rows, config.engine.kernel) == (9, 80, "torch")
    assert config.batching.max_bytes == ServerConfig().batching.max_bytes


def test_the_file_may_be_named_by_a_variable_and_a_flag_names_another(monkeypatch, file, tmp_path):
    monkeypatch.setenv("SAMPLERD_CONFIG", file("[batching]\nmax_batch_rows = 7\n"))
    assert parse([]).config.batching.max_rows == 7
    other = tmp_path / "other.toml"
    other.write_text("[batching]\nmax_batch_rows = 6\n")
    assert parse(["--config", str(other)]).config.batching.max_rows == 6


def test_lists_come_from_a_repeated_flag_a_variable_with_commas_or_an_array(monkeypatch, file):
    wanted = ("127.0.0.1:1", "unix:/run/samplerd.sock")
    path = file('[transport]\nlisten = ["127.0.0.1:1", "unix:/run/samplerd.sock"]\n')
    assert parse(["--config", path]).config.transport.listen == wanted
    assert parse(["--listen", wanted[0], "--listen", wanted[1]]).config.transport.listen == wanted
    monkeypatch.setenv("SAMPLERD_LISTEN", ",".join(wanted))
    assert parse([]).config.transport.listen == wanted
    assert parse(["--listen", wanted[0]]).config.transport.listen == wanted[:1]


@pytest.mark.parametrize("arguments", [["--reflection"], ["--reflection", "true"], ["--reflection=on"]])
def test_a_switch_needs_no_value(arguments):
    assert parse(arguments).config.transport.reflection is True


def test_a_flag_can_switch_off_what_the_file_switched_on(file):
    path = file("[transport]\nreflection = true\n")
    assert parse(["--config", path]).config.transport.reflection is True
    assert parse(["--config", path, "--reflection", "false"]).config.transport.reflection is False


@pytest.mark.parametrize("value", ["", "/engine-", "engine-"])
def test_a_prefix_of_regions_may_begin_with_a_slash_and_empty_is_off(value):
    assert parse(["--shared-memory-prefix", value]).config.transport.shared_memory_prefix == value.removeprefix("/")


def refused(arguments) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(arguments)
    return str(caught.value)


def test_an_unknown_flag_is_named_with_the_nearest_known(capsys):
    with pytest.raises(SystemExit) as caught:
        parse(["--max-batch-row", "3"])
    assert caught.value.code == 2
    assert capsys.readouterr().err == "samplerd: unknown flag --max-batch-row: did you mean --max-batch-rows?\n"


def test_an_unknown_variable_is_named_with_the_nearest_known(monkeypatch):
    monkeypatch.setenv("SAMPLERD_MAX_BATCH_ROW", "3")
    assert refused([]) == ("unknown environment variable SAMPLERD_MAX_BATCH_ROW; did you mean SAMPLERD_MAX_BATCH_ROWS?")
    monkeypatch.delenv("SAMPLERD_MAX_BATCH_ROW")
    monkeypatch.setenv("SAMPLERD_ZZZ", "3")
    assert "SAMPLERD_ZZZ; allowed: SAMPLERD_ACCESS_LOG, SAMPLERD_ACCESS_LOG_ERRORS, " in refused([])


def test_an_unknown_key_or_section_is_named_with_what_is_allowed(file):
    path = file("[batching]\nmax_batch_row = 3\n")
    message = f"{path}: unknown key max_batch_row in [batching]; did you mean max_batch_rows?"
    assert refused(["--config", path]) == message
    path = file("[batching]\nqueue_rows = 3\n")
    assert "unknown key queue_rows in [batching]; allowed: max_batch_bytes, max_batch_rows, max_qu" in refused(
        ["--config", path]
    )
    path = file("[zzz]\n")
    assert "unknown section [zzz]; allowed: admission, batching, distributions, engine, " in refused(["--config", path])
    path = file("batching = 3\n")
    assert refused(["--config", path]) == f"{path}: batching must be a section: [batching]"


def test_a_file_that_cannot_be_read_is_named(file, tmp_path):
    assert "missing.toml: No such file" in refused(["--config", str(tmp_path / "missing.toml")])
    path = file("[batching\n")
    assert refused(["--config", path]).startswith(f"--config {path}: not TOML: ")
    (tmp_path / "latin.toml").write_bytes(b"# \xff\n")
    assert "latin.toml: not TOML" in refused(["--config", str(tmp_path / "latin.toml")])


BAD = [
    ("max-batch-rows", "0", "expected an integer from 1 to 1048576"),
    ("max-batch-rows", "many", "expected an integer from 1 to"),
    ("max-batch-rows", "1.5", "expected an integer from 1 to"),
    ("max-batch-bytes", "1B", "expected from 1KiB to 1024GiB"),
    ("max-batch-bytes", "much", "expected a quantity such as 65536, 64KiB"),
    ("max-queue-delay", "61s", "expected at most 60s"),
    ("max-queue-delay", "-1ms", "expected a quantity such as 250us"),
    ("drain-grace", "2h", "expected at most 3600s"),
    ("queue-rows", "0", "expected an integer from 1 to"),
    ("queue-bytes", "1023", "expected from 1KiB to"),
    ("listen", "50051", "expected host:port"),
    ("metrics-listen", "unix:/x", "expected host:port, or off"),
    ("metrics-listen", "nowhere", "expected host:port"),
    ("reflection", "maybe", "expected true or false"),
    ("device", "gpu", "expected auto, cpu, cuda or cuda:N"),
    ("device", "cuda:", "expected auto, cpu, cuda or cuda:N"),
    ("device", "cuda:²", "expected auto, cpu, cuda or cuda:N"),
    ("kernel", "jax", "expected one of auto, numba, torch, cuda"),
    ("threads", "-1", "expected an integer from 0 to 1024"),
    ("max-message-bytes", "2GiB", "expected from 1KiB to 2147483647"),
    ("shared-memory-prefix", "a/b", "expected at most 64 of A-Z a-z 0-9 . _ -"),
    ("shared-memory-prefix", ".hidden", "expected at most 64 of"),
    ("shared-memory-prefix", "//a", "expected at most 64 of"),
    ("shared-memory-prefix", "a..b", "expected at most 64 of"),
    ("shared-memory-prefix", "a" * 65, "expected at most 64 of"),
    ("workers", "0", "expected an integer from 1 to 256"),
    ("doors", "257", "expected an integer from 0 to 256"),
    ("workers", "257", "expected an integer from 1 to 256"),
    ("log-level", "loud", "expected one of debug, info, warning, error"),
    ("log-format", "xml", "expected one of text, json"),
]


@pytest.mark.parametrize(("flag", "value", "allowed"), BAD)
def test_a_bad_value_is_named_with_its_origin_and_what_is_allowed(monkeypatch, file, flag, value, allowed):
    section, _, setting = SETTINGS[flag]
    shown = [value] if setting.is_list else value
    assert f"--{flag}: {shown!r} is not allowed: {allowed}" in refused([f"--{flag}={value}"])
    path = file(f'[{section}]\n{setting.key} = "{value}"\n')
    assert f"{path}: [{section}] {setting.key}: {value!r} is not allowed: {allowed}" in refused(["--config", path])
    monkeypatch.setenv(setting.variable, value)
    assert f"{setting.variable}: {shown!r} is not allowed: {allowed}" in refused([])


@pytest.mark.parametrize("flag", sorted(SETTINGS))
@pytest.mark.parametrize("value", ["{}", "[[]]", "1979-05-27", "nan", "[]"])
def test_a_value_of_a_wrong_type_in_the_file_is_an_error_that_names_it(file, flag, value):
    section, _, setting = SETTINGS[flag]
    path = file(f"[{section}]\n{setting.key} = {value}\n")
    if value == "[]" and setting.may_be_empty:
        assert getattr(getattr(parse(["--config", path]).config, section), setting.key) == ()
        return
    assert f"{path}: [{section}] {setting.key}: " in refused(["--config", path])


def test_metrics_can_be_off():
    assert parse(["--metrics-listen", "off"]).config.metrics.listen == ""


def test_an_empty_list_is_refused(file):
    path = file("[transport]\nlisten = []\n")
    assert "[transport] listen: [] is not allowed: expected at least one" in refused(["--config", path])


def round_trip(config: ServerConfig) -> ServerConfig:
    return resolve({}, {}, tomllib.loads(render(config)))


def test_what_check_config_prints_is_a_file_that_gives_the_same_configuration(capsys, file):
    flags = [
        *("--listen", "[::1]:1", "--listen", 'unix:/tmp/a "b" \\ \u2028 \U0001f600.sock', "--reflection"),
        *("--max-queue-delay", "9ms", "--drain-grace", "1.25s", "--queue-bytes", "12345", "--metrics-listen", "off"),
        *("--threads", "3", "--device", "cuda:1", "--kernel", "torch", "--log-format", "json"),
    ]
    assert main([*flags, "--check-config"]) == 0
    printed = capsys.readouterr().out
    assert parse(["--config", file(printed)]).config == parse(flags).config
    assert "# most rows in one batch\nmax_batch_rows = 256\n" in printed
    assert 'max_queue_delay = "9ms"\n' in printed


@given(
    delay=st.floats(0, 60, allow_nan=False),
    size=st.integers(1 << 10, 1 << 40),
    path=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    is_on=st.booleans(),
)
def test_any_configuration_survives_being_printed(delay, size, path, is_on):
    config = ServerConfig()
    config = replace(
        config,
        transport=replace(config.transport, listen=(f"unix:{path}",), reflection=is_on),
        batching=replace(config.batching, max_queue_delay_s=delay, max_bytes=size),
    )
    assert round_trip(config) == config


def test_every_setting_is_printed_once():
    content = tomllib.loads(render(ServerConfig()))
    assert sorted(key for entries in content.values() for key in entries) == sorted(
        setting.key for _, _, setting in SETTINGS.values()
    )
    assert len(SETTINGS) == sum(len(fields(cls)) for cls in SECTIONS.values())


def test_a_bad_configuration_ends_the_process_with_2_and_says_why(capsys):
    assert main(["--max-batch-rows", "0"]) == 2
    captured = capsys.readouterr()
    assert captured.err == ("samplerd: --max-batch-rows: '0' is not allowed: expected an integer from 1 to 1048576\n")
    assert captured.out == ""


def test_version_and_help_show_every_flag(capsys):
    with pytest.raises(SystemExit) as caught:
        parse(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert all(f"--{flag}" in text for flag in SETTINGS)
    with pytest.raises(SystemExit):
        parse(["--version"])
    assert capsys.readouterr().out.startswith("samplerd ")


def test_the_environment_is_only_ours(monkeypatch):
    monkeypatch.setenv("SAMPLERD_THREADS", "2")
    monkeypatch.setenv("OTHER_THREADS", "2")
    assert environment() == {"SAMPLERD_THREADS": "2"}


@pytest.mark.parametrize(
    "name",
    [
        *("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_GRPC", "PORT", "PORT_50051_TCP", "PORT_50051_TCP_PROTO"),
        *("PORT_50051_TCP_PORT", "PORT_9464_TCP_ADDR"),
    ],
)
def test_a_kubernetes_service_named_samplerd_does_not_stop_the_server(monkeypatch, name):
    monkeypatch.setenv(f"SAMPLERD_{name}", "tcp://10.0.0.1:50051")
    assert parse([]).config == ServerConfig()


@pytest.mark.parametrize("name", ["SERVICE", "SERVICES_HOST", "PORT_X", "PORT_50051", "SERVICE_HOST_X"])
def test_what_only_looks_like_a_service_link_is_unknown(monkeypatch, name):
    monkeypatch.setenv(f"SAMPLERD_{name}", "1")
    assert f"unknown environment variable SAMPLERD_{name}" in refused([])


def test_read_file_gives_the_values_as_they_stand(file):
    assert read_file(file("[engine]\nthreads = 2\n")) == {"engine": {"threads": 2}}


@pytest.mark.parametrize("address", ["unix:/run/samplerd.sock", "unix-abstract:samplerd"])
def test_workers_cannot_share_a_unix_socket(address):
    assert refused(["--workers=2", "--listen=127.0.0.1:1", f"--listen={address}"]).startswith(
        f"--workers 2: cannot share {address}: a Unix socket belongs to one server"
    )
    assert parse(["--workers=1", f"--listen={address}"]).config.workers.count == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--listen=unix:/s"], "--doors 2: cannot share unix:/s: a Unix socket belongs to one server"),
        (["--envoy-admin=127.0.0.1:1"], "--doors 2: cannot share --envoy-admin 127.0.0.1:1: each door has an Envoy"),
        (
            ["--workers=3"],
            "--workers 3 and --doors 2: the processes are whole servers or doors of one engine, not both",
        ),
    ],
)
def test_doors_exclude_what_they_cannot_share(flags, message):
    assert refused(["--doors=2", *flags]).startswith(message)
    assert parse(["--doors=0", *flags]).config.workers.doors == 0


def test_workers_cannot_share_envoys_admin_interface():
    message = "--workers 3: cannot share --envoy-admin 127.0.0.1:1: each worker has an Envoy of its own"
    assert refused(["--workers=3", "--envoy-admin=127.0.0.1:1"]).startswith(message)


RENAMED = [
    (section, setting, former)
    for section, _, setting in SETTINGS.values()
    for former in setting.deprecated
    if not setting.is_list
]


def test_no_former_name_is_a_name_of_another_setting():
    names = [flag for _, _, setting in SETTINGS.values() for flag in setting.flags]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(("section", "setting", "former"), RENAMED, ids=lambda value: str(value)[:20])
@pytest.mark.parametrize("source", ["flag", "variable", "file"])
def test_a_former_name_sets_the_setting_and_warns_of_the_new_one(monkeypatch, file, section, setting, former, source):
    key = former.replace("-", "_")
    path = file(f"[{section}]\n{key} = 1\n" if source == "file" else "")
    if source == "variable":
        monkeypatch.setenv(f"SAMPLERD_{key.upper()}", "1")
    old, new = {
        "flag": (f"--{former}", f"--{setting.flag}"),
        "variable": (f"SAMPLERD_{key.upper()}", setting.variable),
        "file": (f"{path}: [{section}] {key}", f"{path}: [{section}] {setting.key}"),
    }[source]
    command = parse(["--config", path, *(["--" + former, "1"] if source == "flag" else [])])
    assert command.config == parse([f"--{setting.flag}", "1"]).config
    assert command.warnings == (f"{old} is deprecated and will be removed in the next release: use {new}",)


@pytest.mark.parametrize(("section", "setting", "former"), RENAMED, ids=lambda value: str(value)[:20])
def test_one_source_must_not_give_both_names(monkeypatch, file, section, setting, former):
    key = former.replace("-", "_")
    text = refused([f"--{former}=1", f"--{setting.flag}=1"])
    assert text == f"--{setting.flag} and --{former} are the same setting: give --{setting.flag} alone"
    path = file(f"[{section}]\n{key} = 1\n{setting.key} = 1\n")
    assert f"[{section}] {setting.key} and {path}: [{section}] {key} are the same" in refused(["--config", path])
    monkeypatch.setenv(setting.variable, "1")
    monkeypatch.setenv(f"SAMPLERD_{key.upper()}", "1")
    assert f"{setting.variable} and SAMPLERD_{key.upper()} are the same setting" in refused([])


def test_a_former_name_has_the_precedence_of_its_source(monkeypatch):
    monkeypatch.setenv("SAMPLERD_INLINE_BUDGET", "1ms")
    command = parse(["--event-loop-draw-limit", "2ms"])
    assert command.config.engine.event_loop_draw_limit_s == 2e-3
    assert not command.warnings
    monkeypatch.setenv("SAMPLERD_EVENT_LOOP_DRAW_LIMIT", "3ms")
    assert parse(["--inline-budget", "4ms"]).config.engine.event_loop_draw_limit_s == 4e-3


def test_a_bad_value_under_a_former_name_is_named_as_it_was_given():
    assert refused(["--inline-budget", "2s"]).startswith("--inline-budget: '2s' is not allowed: expected at most 1s")


@pytest.mark.parametrize(
    "flags", [("--token-file", "/nowhere"), ("--tls-cert", "/nowhere", "--tls-key", "/nowhere")], ids=["tokens", "tls"]
)
def test_check_config_reads_the_files_that_it_names(capsys, flags):
    assert main([*flags, "--check-config"]) == 2
    assert capsys.readouterr().err == f"samplerd: {flags[0]} /nowhere: No such file or directory\n"


def test_check_config_writes_the_new_name_and_warns_on_standard_error(capsys):
    assert main(["--max-tokens-per-row", "7", "--check-config"]) == 0
    captured = capsys.readouterr()
    assert "max_ids_per_list = 7\n" in captured.out
    assert "max_tokens_per_row" not in captured.out
    assert captured.err == (
        "samplerd: --max-tokens-per-row is deprecated and will be removed in the next release: use --max-ids-per-list\n"
    )


@pytest.mark.parametrize(("section", "setting", "former"), RENAMED, ids=lambda value: str(value)[:20])
def test_the_page_of_settings_and_the_help_show_a_former_name(capsys, section, setting, former):
    page = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text(encoding="utf-8")
    [row] = [line for line in page.splitlines() if line.startswith(f"| `--{setting.flag}` |")]
    assert f"(formerly `--{former}`: deprecated, accepted for one release)" in row
    with pytest.raises(SystemExit):
        parse(["--help"])
    assert f"deprecated: use --{setting.flag}" in capsys.readouterr().out


def test_a_former_name_is_never_suggested(monkeypatch):
    monkeypatch.setenv("SAMPLERD_INLINE_BUDGE", "1ms")
    assert "SAMPLERD_INLINE_BUDGET" not in refused([])
