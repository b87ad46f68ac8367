"""Flags, inputs and rendering of samplerctl, without a server."""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import signal
import socket
import sys
from dataclasses import fields
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from samplerd_client import Dry, SamplingParams
from samplerd_client.errors import UnauthenticatedError
from samplerd_client.info import Limits
from samplerd_client.parameter_table import PARAMETERS
from samplerd_client.result import SampleResult, Timing
from samplerd_client.samplerctl import commands, environment, inputs, main, render
from samplerd_client.samplerctl.arguments import build_parser, join_negative_values
from samplerd_client.samplerctl.bench import Tally, _check_limits, _load
from samplerd_client.samplerctl.connection import client_of
from samplerd_client.samplerctl.sample import _report
from samplerd_client.samplerctl.sample_options import sample_options
from samplerd_client.samplerctl.sample_outputs import arrays_of, records_of
from samplerd_client.samplerctl.sampling_flags import sampling_options
from samplerd_client.systems import PRESETS
from tests.support.parameters import every_flag, every_value

if TYPE_CHECKING:
    from pathlib import Path

    from samplerd_client.systems import System


def parse(*argv: str) -> argparse.Namespace:
    return build_parser().parse_args(join_negative_values(argv))


def test_every_sampling_parameter_has_a_flag() -> None:
    options: dict[str, Any] = dict(sampling_options(parse("sample", "--logits", "1,2", *every_flag())))
    assert options == every_value()
    assert options.keys() == {field.name for field in fields(SamplingParams)}


@pytest.mark.parametrize("command", ["sample", "bench", "distribution create"])
def test_the_help_says_what_every_sampling_parameter_does(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*command.split(), "--help"])
    words = " ".join(capsys.readouterr().out.split())
    for row in PARAMETERS:
        for own in row.members or (row,):
            assert " ".join(own.help.split()) in words


def test_a_flag_of_a_group_needs_the_one_that_makes_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", "--logits", "1,2", "--dry-base", "2"]) == 2
    assert capsys.readouterr().err == "samplerctl: --dry-base: give --dry-multiplier too\n"


def test_flags_of_sampling_parameters_are_read() -> None:
    args = parse(
        *("sample", "--logits", "1,2"),
        *("--temperature", "0.5", "--top-k", "3", "--top-p", "0.9", "--min-p", "0.1", "--typical-p", "0.8"),
        *("--epsilon-cutoff", "0.01", "--eta-cutoff", "0.02", "--top-n-sigma", "1.5", "--xtc-threshold", "0.2"),
        *("--xtc-probability", "0.3", "--dynamic-temperature-range", "0.4", "--dynamic-temperature-exponent", "2"),
        *("--repetition-penalty", "1.1", "--frequency-penalty", "-0.5", "--presence-penalty", "-.6"),
        *(
            "--history",
            "5,6",
            "--logit-bias",
            "2:-1.5,3:-inf",
            "--allowed-tokens",
            "1,2",
            "--token-bitmask",
            "ff000000",
        ),
        *("--min-tokens-to-keep", "2", "--order", "vllm"),
        *("--dry-multiplier", "0.7", "--dry-base", "1.8", "--dry-range", "9", "--dry-sequence-breakers", "1,2"),
    )
    options: dict[str, Any] = dict(sampling_options(args))
    assert options["frequency_penalty"] == -0.5
    assert options["logit_bias"] == {2: -1.5, 3: -np.inf}
    assert options["token_bitmask"] == b"\xff\0\0\0"
    assert options["dry"] == Dry(multiplier=0.7, base=1.8, range=9, sequence_breakers=[1, 2])
    assert SamplingParams(**options).to_proto().min_p == 0.1


@pytest.mark.parametrize("system", PRESETS)
def test_flags_stand_on_top_of_what_another_sampler_does(system: System) -> None:
    args = parse("sample", "--logits", "1", "--like", system, "--top-p", "0.7", "--dry-multiplier", "1")
    own = SamplingParams.like(system, top_p=0.7, dry=Dry(multiplier=1))
    assert SamplingParams(**cast("dict[str, Any]", sampling_options(args))) == own


def test_nothing_given_is_nothing_sent() -> None:
    assert sampling_options(parse("sample", "--logits", "1")) == {}
    options = sample_options(parse("sample", "--logits", "1"))
    assert options["replacement"] is True
    assert options["probabilities"] is False
    assert options["num_samples"] == 1


def test_options_of_the_draw() -> None:
    args = parse(
        *("sample", "--probabilities", "1", "-n", "5", "--without-replacement", "--seed", str(2**64 - 1)),
        *("--logprobs", "raw,processed", "--top-n", "2", "--rank", "--entropy", "scaled", "--kept", "--priority", "-7"),
        "--adaptive-state",
    )
    options = sample_options(args)
    assert options["probabilities"] is True
    assert options["replacement"] is False
    assert options["seed"] == 2**64 - 1
    assert options["logprobs"] == ("raw", "processed")
    assert options["priority"] == -7
    assert options["adaptive_state"] is True


def test_negative_values_are_values() -> None:
    assert join_negative_values(["sample", "--logits", "-1,2", "-n", "3"]) == ["sample", "--logits=-1,2", "-n", "3"]
    assert join_negative_values(["--logits", "-inf,0"]) == ["--logits=-inf,0"]
    assert join_negative_values(["--logits", "-.5"]) == ["--logits=-.5"]
    assert join_negative_values(["--rank", "--kept", "-n", "1"]) == ["--rank", "--kept", "-n", "1"]
    assert join_negative_values(["--logits=1", "-1"]) == ["--logits=1", "-1"]


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["sample"],
        ["sample", "--logits", "1", "--npy", "f"],
        ["sample", "--logits", "1", "--logprobs", "cooked"],
        ["sample", "--logits", "1", "--order", "mine"],
        ["sample", "--logits", "1", "--token-bitmask", "xyz"],
        ["sample", "--logits", "1", "--history", "1,two"],
        ["sample", "--logits", "1", "--logit-bias", "1"],
        ["bench", "--rows", "0"],
        ["bench", "--duration", "-1"],
        ["bench", "--duration", "nan"],
    ],
)
def test_wrong_usage(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("samplerctl")
    assert error.count("\n") == 1


@pytest.mark.parametrize("argv", [["--help"], ["sample", "--help"], ["bench", "--help"], ["verify", "--help"]])
def test_help(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 0
    assert "usage: samplerctl" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--logits", "1,two"], "'two' is not a number"),
        (["--logits", "1,2;3"], "different lengths: 2, 1"),
        (["--logits", " ; "], "no numbers"),
        (["--npy", "/does/not/exist.npy"], "cannot read /does/not/exist.npy"),
        (["--logits", "1", "--tls-ca", "/does/not/exist.pem"], "/does/not/exist.pem"),
        (["--logits", "1", "--tls-key", "/does/not/exist.pem"], "certificate"),
        (["--logits", "1", "--seed", "1", "--row-seeds", "2"], "--seed and --row-seeds exclude each other"),
        (["--logits", "1", "--top-n", "3"], "--top-n: give --logprobs too"),
        (["--logits", "1", "--weights"], "take --probabilities"),
        (["--distribution", "d", "--dtype", "f16"], "--dtype converts rows that are sent"),
        (["--logits", "1", "--show", "3", "--output", "jsonl"], "--show is for --output table"),
    ],
)
def test_what_cannot_be_read(argv: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", *argv]) == 2
    error = capsys.readouterr().err
    assert text in error
    assert error.startswith("samplerctl: ")
    assert error.count("\n") == 1


def test_rows_from_text() -> None:
    assert inputs.parse_rows("1, 2;\n3 4\n").tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert inputs.parse_rows("-inf,1e3").tolist() == [[-np.inf, 1000.0]]
    assert inputs.parse_rows("1").dtype == np.float32


@pytest.mark.parametrize(("text", "row"), [("1,,2", 1), ("1,2,", 1), (",1", 1), ("1,2;3, ,4", 2)])
def test_a_missing_number_is_not_skipped(text: str, row: int) -> None:
    """The ids of all after it would be others."""
    with pytest.raises(inputs.InputError, match=f"a number is missing beside a comma, in row {row}"):
        inputs.parse_rows(text)


def test_standard_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def given(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    buffer = io.BytesIO()
    np.save(buffer, np.array([[1.0, 2.0]]))
    given(buffer.getvalue())
    assert inputs.read_standard_input().tolist() == [[1.0, 2.0]]
    given(buffer.getvalue())
    assert inputs.read_npy("-").tolist() == [[1.0, 2.0]]
    given(b"1 2\n3 4\n")
    assert inputs.read_standard_input().tolist() == [[1.0, 2.0], [3.0, 4.0]]
    given(b"\xff\xfe")
    with pytest.raises(inputs.InputError, match=r"neither \.npy, nor \.npz, nor text"):
        inputs.read_standard_input()
    (tmp_path / "f.npy").write_bytes(b"\x93NUMPY\x01\x00rubbish")
    with pytest.raises(inputs.InputError, match="no array of numbers that can be read"):
        inputs.read_npy(str(tmp_path / "f.npy"))
    np.save(tmp_path / "o.npy", np.array([None]), allow_pickle=True)
    with pytest.raises(inputs.InputError, match="allow_pickle"):
        inputs.read_npy(str(tmp_path / "o.npy"))


def test_files_of_other_kinds(tmp_path: Path) -> None:
    rows = np.array([[1.0, 2.0], [3.0, 4.0]])
    one, two, text = tmp_path / "one.npz", tmp_path / "two.npz", tmp_path / "rows.csv"
    np.savez_compressed(one, rows)
    np.savez(two, a=rows, b=rows)
    text.write_bytes(b"\xef\xbb\xbf1,2\r\n3,4\r\n")
    assert inputs.read_npy(str(one)).tolist() == rows.tolist()
    assert inputs.read_npy(str(text)).tolist() == rows.tolist()
    with pytest.raises(inputs.InputError, match=r"two\.npz must hold one array, and holds a, b"):
        inputs.read_npy(str(two))
    text.write_text("id,weight\n1,2\n")
    with pytest.raises(inputs.InputError, match=r"'id' is not a number, in row 1; expected .* without a header"):
        inputs.read_npy(str(text))
    with pytest.raises(inputs.InputError, match=r"the file of this name is read with --npy .*rows\.csv"):
        inputs.parse_rows(str(text))
    one.write_bytes(one.read_bytes()[:40])
    with pytest.raises(inputs.InputError, match="no array of numbers that can be read"):
        inputs.read_npy(str(one))


@pytest.mark.parametrize(
    ("given", "target"),
    [
        ("host", "host:50051"),
        ("host:1", "host:1"),
        (":7", "localhost:7"),
        ("10.0.0.1", "10.0.0.1:50051"),
        ("::1", "[::1]:50051"),
        ("[::1]", "[::1]:50051"),
        ("[::1]:9", "[::1]:9"),
        ("unix:/run/s", "unix:/run/s"),
        ("unix-abstract:s", "unix-abstract:s"),
        ("dns:///host:1", "dns:///host:1"),
        ("ipv4:10.0.0.1:1", "ipv4:10.0.0.1:1"),
        ("10.0.0.1,10.0.0.2:7", "10.0.0.1:50051,10.0.0.2:7"),
        ("::1,[::2]:9", "[::1]:50051,[::2]:9"),
    ],
)
def test_a_server_without_a_port_has_the_usual_one(given: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse("info", "--server", given).server == target
    assert parse("verify", given).host == target
    monkeypatch.setenv("SAMPLERD_SERVER", given)
    assert parse("info").server == target


def test_several_servers_and_connections_are_the_clients() -> None:
    client = client_of(parse("info", "--server", "10.0.0.1,10.0.0.2:7", "--connections", "3"))
    config = client._pool._config
    assert client.target == "ipv4:10.0.0.1:50051,10.0.0.2:7"
    assert (config.is_balanced, config.connections) == (True, 3)
    assert not client_of(parse("info"))._pool._config.is_balanced
    named = client_of(parse("info", "--server", "dns:///sampler:1", "--balance"))
    assert named._pool._config.is_balanced
    with pytest.raises(ValueError, match="balance"):
        client_of(parse("info", "--server", "a.example,b.example"))


def test_one_of_several_servers_that_is_no_address_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("info", "--server", "10.0.0.1,,10.0.0.2")
    assert "the address is empty" in capsys.readouterr().err


def _result() -> SampleResult:
    """All that can be asked for, of two rows and three samples."""
    return SampleResult(
        samples=np.array([[1, 0, 1], [2, 2, 0]], np.int32),
        seed=0,
        rng="philox",
        timing=Timing(queue_s=0.0, compute_s=0.0, batch_rows=2),
        logprobs={"raw": np.zeros((2, 3), np.float32)},
        top_ids={"raw": np.zeros((2, 1), np.int32)},
        top_logprobs={"raw": np.zeros((2, 1), np.float32)},
        ranks=np.ones((2, 3), np.int32),
        entropies={"scaled": np.zeros(2, np.float32)},
        kept_count=np.ones(2, np.int32),
        kept_mass=np.ones(2, np.float32),
        adaptive_weighted_sum=np.zeros((2, 3)),
        adaptive_total_weight=np.zeros((2, 3)),
    )


ASKED = ("--logprobs=raw", "--top-n=1", "--rank", "--entropy=scaled", "--kept", "--adaptive-state")


def test_no_output_drops_what_was_asked_for() -> None:
    result = _result()
    names = {"logprobs", "top_ids", "top_logprobs", "ranks", "entropy", "kept", "kept_mass"}
    names |= {"adaptive_weighted_sum", "adaptive_total_weight"}
    arrays = arrays_of(result, [7, 8])
    assert {name.partition(".")[0] for name in arrays} == names | {"samples", "seed", "rng", "row_seeds"}
    assert arrays["row_seeds"].tolist() == [7, 8]
    first, second = records_of(result, [7, 8])
    assert first.keys() == names | {"row", "seed", "rng", "samples"}
    assert (first["seed"], second["seed"]) == (7, 8)
    assert {record["seed"] for record in records_of(result, None)} == {0}
    table = _report(result, None, parse("sample", "--logits", "1", "--row-seeds", "7,8"), unicode=False)
    assert "seeds of the rows 7, 8 " in table
    for text in ("log-probability (raw)", "most likely (raw)", "entropy (scaled)", "mean rank", "kept:", "adaptive-p"):
        assert text in table


@pytest.mark.parametrize("flag", ASKED)
def test_npy_refuses_what_it_cannot_hold(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    also = ["--logprobs=raw"] if flag.startswith("--top-n") else []
    assert main(["sample", "--logits", "1", "--output", "npy", "-o", "f", flag, *also]) == 2
    assert f"without {', '.join([*also, flag][:1]).partition('=')[0]}" in capsys.readouterr().err


def test_durations_have_units() -> None:
    args = [parse("bench", "--duration", text).duration for text in ("2", "0.5s", "500ms", "2m", "1h")]
    assert args == [2.0, 0.5, 0.5, 120.0, 3600.0]


LIMITS = Limits(
    max_message_bytes=4000,
    max_rows_per_request=8,
    max_vocab_size=500,
    max_samples_per_request=16,
    **dict.fromkeys(
        [field.name for field in fields(Limits) if field.name not in {"max_message_bytes", "max_rows_per_request"}][2:],
        0,
    ),
)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--vocab-size=501"], "501 numbers in a row (--vocab-size) are more than this server takes: 500"),
        (["--rows=9", "--vocab-size=1"], "9 rows in a request (--rows) are more than this server takes: 8"),
        (["--rows=8", "-n3", "--vocab-size=1"], "24 samples in a request are more than this server takes: 16"),
        (["--rows=3", "--vocab-size=400"], "4,800 bytes of rows in a request are more than this server takes: 4,000"),
    ],
)
def test_a_load_beyond_the_limits_is_refused_at_once(flags: list[str], said: str) -> None:
    with pytest.raises(inputs.InputError) as caught:
        _check_limits(LIMITS, parse("bench", *flags))
    assert str(caught.value).startswith(said)
    _check_limits(LIMITS, parse("bench", "--rows=8", "--vocab-size=250", "--dtype=f16"))


async def test_ctrl_c_ends_a_bench_with_what_it_has() -> None:
    async def call(number: int) -> Any:
        await asyncio.sleep(0)
        if number == 50:
            os.kill(os.getpid(), signal.SIGINT)
        return SimpleNamespace(row_errors=())

    tally = Tally(rows=1)
    args = parse("bench", "--duration", "600", "--warm-up", "0", "--concurrency", "1")
    elapsed_s, was_interrupted = await _load(call, tally, args)
    assert was_interrupted
    assert 0 < elapsed_s < 600
    assert len(tally.latencies_s) >= 50
    assert tally.summary(elapsed_s)["requests"] == len(tally.latencies_s)


async def test_ctrl_c_in_the_warm_up_has_nothing() -> None:
    async def call(number: int) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(0)
        return SimpleNamespace(row_errors=())

    tally = Tally(rows=1)
    args = parse("bench", "--duration", "600", "--warm-up", "600", "--concurrency", "1")
    assert await _load(call, tally, args) == (0.0, True)
    assert not tally.latencies_s


async def test_a_bench_runs_on_any_thread() -> None:
    async def call(number: int) -> Any:
        await asyncio.sleep(0)
        return SimpleNamespace(row_errors=())

    args = parse("bench", "--duration", "0.01", "--warm-up", "0", "--concurrency", "1")
    elapsed_s, was_interrupted = await asyncio.to_thread(lambda: asyncio.run(_load(call, Tally(rows=1), args)))
    assert elapsed_s >= 0.01
    assert not was_interrupted


def test_an_audit_of_few_draws_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--draws", "10"]) == 2
    assert "--draws 10 is too few to tell a wrong law from chance" in capsys.readouterr().err


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAMPLERD_SERVER", raising=False)
    monkeypatch.delenv("SAMPLERD_TOKEN", raising=False)
    assert environment.default_server() == "127.0.0.1:50051"
    assert environment.default_token() is None
    monkeypatch.setenv("SAMPLERD_SERVER", "unix:/run/s")
    monkeypatch.setenv("SAMPLERD_TOKEN", "t")
    assert parse("info").server == "unix:/run/s"
    assert environment.default_token() == "t"


def test_table() -> None:
    text = render.table(["id", "name"], [["1", "a"], ["10", "bcdef"]], "><")
    assert text.splitlines() == ["id  name", "--  -----", " 1  a", "10  bcdef"]


def test_bars() -> None:
    assert render.bar(0.5, None, 1.0, 8, unicode=True) == "████"
    assert render.bar(0.5, None, 1.0, 8, unicode=False) == "####"
    assert render.bar(0.5625, None, 1.0, 8, unicode=True) == "████▌"
    assert render.bar(0.5, 0.75, 1.0, 8, unicode=True) == "████  │"
    assert render.bar(0.75, 0.5, 1.0, 8, unicode=True) == "████┃█"
    assert render.bar(1.0, 1.0, 1.0, 8, unicode=False) == "#######|"
    assert render.bar(0.0, 0.0, 0.0, 8, unicode=True) == ""
    assert len(render.bar(2.0, 3.0, 1.0, 8, unicode=True)) == 8


def test_numbers() -> None:
    assert render.count(1234567.0) == "1,234,567"
    assert (render.probability(0.25), render.probability(0.0), render.probability(1e-5)) == (
        "0.2500",
        "0.0000",
        "1.0e-05",
    )
    assert (render.p_value(0.5), render.p_value(1e-9)) == ("0.500", "1e-09")
    assert (render.milliseconds(0.00125), render.milliseconds(float("nan"))) == ("1.25 ms", "-")
    assert [render.size(value) for value in (5, 2048, 64 << 20, 3 << 40)] == [
        "5 B",
        "2.0 KiB",
        "64.0 MiB",
        "3072.0 GiB",
    ]


def test_tally() -> None:
    tally = Tally(rows=4)
    tally.latencies_s.extend(number / 1000 for number in range(1000, 0, -1))
    tally.errors["OverloadedError"] += 2
    figures = tally.summary(10.0)
    assert figures["rows_per_s"] == 400.0
    assert figures["requests_per_s"] == 100.0
    assert (figures["p50_s"], figures["p99.9_s"], figures["max_s"]) == (0.5, 0.999, 1.0)
    assert figures["errors"] == 2
    empty = Tally(rows=1).summary(1.0)
    assert empty["requests"] == 0
    assert np.isnan(empty["p50_s"])


def test_a_missing_token_says_where_it_is_looked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_: object) -> int:
        raise UnauthenticatedError("no token")

    monkeypatch.setattr(commands, "run", refuse)
    assert main(["info"]) == 1
    assert capsys.readouterr().err == "samplerctl: no token; samplerctl sends the one in the variable SAMPLERD_TOKEN\n"


def test_a_description_is_wrapped_and_an_epilog_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main(["replay", "--help"])
    assert max(map(len, capsys.readouterr().out.splitlines())) < 80
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "\n  samplerctl replay request.json reply.json\n" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["info"], ["distribution", "list"], ["distribution", "show", "a"]])
def test_a_question_waits_for_seconds_and_a_draw_for_longer(command: list[str]) -> None:
    assert parse(*command).timeout == 5.0
    assert parse(*command, "--timeout", "60").timeout == 60.0
    assert parse("sample", "--logits", "1,2").timeout == 30.0


async def test_info_gives_up_on_a_server_that_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """It accepts connections, as the system does for a frozen process."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        server = f"127.0.0.1:{silent.getsockname()[1]}"
        code = await asyncio.wait_for(asyncio.to_thread(main, ["info", "--server", server, "--timeout", "0.5"]), 15)
    assert code != 0
    assert server in capsys.readouterr().err
