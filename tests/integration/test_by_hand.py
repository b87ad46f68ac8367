"""The lines of docs/by_hand.md, run as they stand against both transports."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.tools import need

PAGE = Path(__file__).parents[2] / "docs" / "by_hand.md"
SCRIPTS, BLOCKS = [], []
"""Blocks whose lines need each other, by way of files, and those whose lines stand for themselves."""
for found in re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
    (SCRIPTS if " > " in found or "--save" in found else BLOCKS).append(found)
LINES = [line for block in BLOCKS for line in block.replace("\\\n", "").splitlines()]
SAMPLES = [1, 3, 3, 2, 1]
"""Of [1, 2, 0.5, 1.5] at T = 0.7 with the seed 42."""


CURLS = [line for line in LINES if line.startswith("curl")]
WEB = [line for line in LINES if "--protocol connect" in line or "--protocol grpcweb" in line]
"""These two need the transport envoy."""


@pytest.fixture(scope="module")
def addresses():
    flags = "--reflection", "--transport"
    with Daemon(*flags, "grpcio") as grpcio, Daemon(*flags, "envoy") as envoy:
        yield {"grpcio": grpcio.address, "envoy": envoy.address}


@pytest.fixture(params=["grpcio", "envoy"])
def address(request, addresses):
    return addresses[request.param]


def run(line: str, address: str) -> subprocess.CompletedProcess[str]:
    tool, *arguments = shlex.split(line.replace("127.0.0.1:50051", address))
    return subprocess.run([need(tool), *arguments], capture_output=True, text=True, timeout=60, check=False)


def find(tool: str, part: str) -> str:
    [line] = [line for line in LINES if line not in WEB and line.startswith(tool) and part in line]
    return line


@pytest.mark.parametrize("line", [line for line in LINES if line not in CURLS + WEB])
def test_every_line_runs(line, address):
    ended = run(line, address)
    expected = 67 if '"top_p": 7' in line else 0
    assert ended.returncode == expected, ended.stderr
    assert ended.stdout or ended.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_saved_reply_is_replayed(script, address, tmp_path):
    assert "samplerctl replay" in script
    tools = {Path(need(tool)).parent for tool in ("grpcurl", "samplerctl")}
    path = os.pathsep.join([*map(str, tools), os.environ["PATH"]])
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script.replace("127.0.0.1:50051", address)],
        cwd=tmp_path,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "ok: 5 of 5 draws follow\n" in ended.stdout


@pytest.mark.parametrize("tool", ["grpcurl", "buf curl"])
def test_the_same_seed_gives_the_same_ids(tool, address):
    reply = json.loads(run(find(tool, '"seed": 42'), address).stdout)
    assert reply["samples"] == SAMPLES


def test_a_stream_answers_both(address):
    text = run(find("grpcurl", "SampleStream"), address).stdout
    replies = [json.loads(part) for part in re.split(r"(?<=\})\n(?=\{)", text)]
    assert sorted(reply["id"] for reply in replies) == ["1", "2"]


def test_an_error_names_the_field(address):
    told = run(find("grpcurl", '"top_p": 7'), address).stderr
    assert "InvalidArgument" in told
    assert '"field":"params.top_p"' in told


def test_a_method_is_described(address):
    told = run(find("grpcurl", "SamplerService.Sample"), address).stdout
    assert "rpc Sample ( .samplerd.v1.SampleRequest ) returns ( .samplerd.v1.SampleResponse )" in told


@pytest.mark.parametrize("name", ["samplerd.v1.SamplerService.Nothing", "samplerd.v1.Nothing", "Nothing"])
def test_what_does_not_exist_is_not_found(name, address):
    ended = run(f"grpcurl -plaintext 127.0.0.1:50051 describe {name}", address)
    assert ended.returncode != 0
    assert "not found" in ended.stderr.lower()


def test_every_line_of_curl_runs(addresses):
    told = [json.loads(run(line, addresses["envoy"]).stdout) for line in CURLS]
    assert told[0]["samples"] == SAMPLES
    assert told[1]["rng"]
    assert told[2] == {"status": "SERVING"}
    assert told[3]["code"] == "invalid_argument"
    assert told[4]["samples"] == SAMPLES
    assert told[5]["rng"]
    assert len(told[6]["samples"]) == 5000
    assert len(told) == 7


def test_buf_speaks_connect_and_grpc_web(addresses):
    stream, unary = (run(line, addresses["envoy"]).stdout for line in WEB)
    assert sorted(re.findall(r'"id": ?"(\d)"', stream)) == ["1", "2"]
    assert json.loads(unary)["samples"] == SAMPLES
