"""The client and samplerctl against a real samplerd in its own process."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import math
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from google.protobuf.json_format import MessageToJson

from samplerd.v1 import sampler_pb2 as pb
from samplerd.v1 import sampler_pb2_grpc
from samplerd_client import (
    Candidates,
    Health,
    InvalidRequestError,
    RetryPolicy,
    RowErrorReason,
    RowsFailedError,
    SamplerClient,
    SamplingParams,
    SharedMemoryRegion,
    SyncSamplerClient,
    UnavailableError,
)
from samplerd_client.replay import replay
from samplerd_client.samplerctl import main
from samplerd_server.sampling.parameters import PARAMETERS, ParamKind
from tests.support import fake_sampler
from tests.support.daemon import Daemon
from tests.support.regions import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EXAMPLE = [1.0, 2.0, 0.5, 1.5]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    # What configures samplerctl in the shell of whoever runs the tests is not the server's.
    env = {name: value for name, value in os.environ.items() if not name.startswith("SAMPLERD_")}
    with Daemon("--shared-memory-prefix", PREFIX, env=env) as daemon:
        yield daemon.address


async def test_a_draw_can_be_replayed_from_its_result(address: str) -> None:
    async with SamplerClient(address) as client:
        await client.wait_ready()
        assert await client.health() is Health.SERVING
        result = await client.sample(EXAMPLE, temperature=0.7, num_samples=1000)
        again = replay(np.array(EXAMPLE), result.seed, 1000, temperature=0.7)
        assert np.count_nonzero(result.samples[0] != again) <= 1, "a boundary may be hit within rounding"


async def test_tensors_of_every_kind_draw_alike(address: str) -> None:
    import torch  # noqa: PLC0415

    row = torch.tensor([[0.5, 1.5, -2.0, 3.0], [1.0, 1.0, 0.25, 0.0]])  # exact in every dtype
    async with SamplerClient(address) as client:
        draws = [
            (await client.sample(sent, seed=3, num_samples=50, dtype=dtype)).samples.tolist()
            for sent, dtype in [
                *((row, None), (row.bfloat16(), None), (row.half(), None), (row.double(), None)),
                *((row.tolist(), None), (row, "bf16"), (row, "f16")),
            ]
        ]
    assert all(draw == draws[0] for draw in draws)


async def test_guidance_rows_of_every_kind_draw_alike(address: str) -> None:
    import torch  # noqa: PLC0415

    rows = torch.tensor([[0.5, 1.5, -2.0, 3.0], [1.0, 1.0, 0.25, 0.0]])  # exact in every dtype
    second = torch.tensor([[1.5, 0.5, 0.0, -3.0], [-1.0, 2.0, 0.25, 0.5]])
    options: dict[str, Any] = {"guidance_scale": 1.75, "seed": 3, "num_samples": 50}
    async with SamplerClient(address) as client:
        with SharedMemoryRegion(PREFIX, slots=2, slot_bytes=64) as region:
            draws = [
                (await client.sample(rows, guidance=guidance, **options)).samples.tolist()
                for guidance in (second, second.numpy(), second.tolist(), second.bfloat16(), second.double())
            ]
            shared = region.put(rows.numpy()), region.put(second.numpy())
            both = await client.sample(shared_memory=shared[0], guidance=shared[1], **options)
        async with client.stream() as stream:
            streamed = await stream.sample(rows, guidance=second, **options)
        alone = await asyncio.gather(
            *(client.sample(rows[row], guidance=second[row], **options) for row in range(2)),
        )
    assert all(draw == draws[0] for draw in (*draws, both.samples.tolist(), streamed.samples.tolist()))
    assert alone[0].samples.tolist() == [draws[0][0]], "row 0 draws the same alone: calls are not joined"


def test_guidance_rows_without_an_event_loop(address: str) -> None:
    with SyncSamplerClient(address) as client:
        guided = client.sample(EXAMPLE, guidance=[0.0, 9.0, 0.0, 0.0], guidance_scale=2.0, temperature=0.0)
        assert guided.samples.tolist() == [[3]]
        assert client.sample(EXAMPLE, temperature=0.0).samples.tolist() == [[1]]


async def test_what_cannot_be_guided_is_refused_by_its_name(address: str) -> None:
    async with SamplerClient(address) as client:
        await client.create_distribution(EXAMPLE, name="guided")
        for field, call in {
            "params.guidance_scale": client.sample(EXAMPLE, guidance_scale=2.0),
            "guidance": client.sample(EXAMPLE, guidance=EXAMPLE),
        }.items():
            with pytest.raises(InvalidRequestError) as caught:
                await call
            assert caught.value.violations[0].field == field
        for source in ({"distribution": "guided"}, {"candidates": Candidates(ids=[[1]], logits=[[1.0]], vocab_size=4)}):
            with pytest.raises(InvalidRequestError) as caught:
                await client.sample(guidance=EXAMPLE, guidance_scale=2.0, **source)
            assert caught.value.violations[0].field == "guidance"
        await client.delete_distribution("guided")
        with pytest.raises(InvalidRequestError) as caught:
            await client.create_distribution(EXAMPLE, params=SamplingParams(guidance_scale=2.0))
        assert caught.value.violations[0].field == "params.guidance_scale"
        with pytest.raises(InvalidRequestError) as caught:
            await client.verify_draft([EXAMPLE, EXAMPLE], [1], params=SamplingParams(guidance_scale=2.0))
        assert caught.value.violations[0].field == "params.guidance_scale"
        with pytest.raises(RowsFailedError, match="NaN at id 1 of the guidance row"):
            await client.sample(EXAMPLE, guidance=[1.0, math.nan, 0.0, 0.0], guidance_scale=2.0)


def test_samplerctl_takes_guidance_rows(address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "second.npy", np.array([[0.0, -1.0, 2.0, 0.0]], np.float32))
    draw = ("sample", "--server", address, "--logits", "1,2,0.5,1.5", "--guidance-scale", "3", "--temperature", "0")
    for second in (("--guidance", "0,-1,2,0"), ("--guidance-npy", str(tmp_path / "second.npy"))):
        assert main([*draw, *second, "--output", "jsonl"]) == 0
        assert json.loads(capsys.readouterr().out)["samples"] == [1]
        assert main([*draw[:4], "0,0,0,0", *draw[5:], *second, "--output", "jsonl"]) == 0
        assert json.loads(capsys.readouterr().out)["samples"] == [1], "away from the guidance row"


async def test_typed_errors(address: str) -> None:
    async with SamplerClient(address) as client:
        with pytest.raises(InvalidRequestError) as caught:
            await client.sample(EXAMPLE, temperature=-1.0)
        assert caught.value.violations[0].field == "params.temperature"
        with pytest.raises(RowsFailedError) as failed:
            await client.sample([float("nan"), 1.0])
        assert failed.value.row_errors[0].reason is RowErrorReason.NAN
        result = await client.sample([[1.0, 2.0], [float("inf"), 1.0]])
        assert [error.row for error in result.row_errors] == [1]
        assert result.samples[1].tolist() == [-1]


async def test_the_server_names_the_parameter_that_is_out_of_range(address: str) -> None:
    bounded = [row for row in PARAMETERS if row.kind is ParamKind.FLOAT and math.isfinite(row.range.low)]
    assert len(bounded) > 9
    async with SamplerClient(address) as client:
        for row in bounded:
            beyond = row.range.low - 1.5  # not 0, which is absence
            with pytest.raises(InvalidRequestError) as caught:
                await client.sample(EXAMPLE, params=SamplingParams(**{row.name: beyond}))
            assert caught.value.violations[0].field == f"params.{row.name}"


async def test_a_stream_with_failures_and_chunks(address: str) -> None:
    async with SamplerClient(address) as client:
        chunk = (await client.server_info()).limits.chunk_samples
        async with client.stream(max_in_flight=32) as stream:
            calls = [
                stream.sample(EXAMPLE, seed=number, temperature=-1.0 if number % 10 == 0 else 0.7)
                for number in range(100)
            ]
            large = stream.sample(EXAMPLE, seed=1, num_samples=chunk + 17)
            *results, whole = await asyncio.gather(*calls, large, return_exceptions=True)
            parts = [part async for part in stream.sample_chunks(EXAMPLE, seed=1, num_samples=chunk + 17)]
        one: Any = await client.sample(EXAMPLE, seed=1, num_samples=chunk + 17)
    for number, result in enumerate(results):
        if number % 10 == 0:
            assert isinstance(result, InvalidRequestError)
        else:
            assert not isinstance(result, BaseException)
            assert result.samples[0, 0] == replay(np.array(EXAMPLE), number, 1, temperature=0.7)[0]
    assert not isinstance(whole, BaseException)
    assert len(parts) >= 2
    assert np.array_equal(whole.samples, one.samples)
    assert np.array_equal(np.concatenate([part.samples for part in parts]), one.samples[0])


def test_the_synchronous_client(address: str) -> None:
    with SyncSamplerClient(address) as client, client.stream() as stream:
        client.wait_ready(20.0)
        futures = [client.submit(EXAMPLE, seed=seed) for seed in range(10)]
        futures += [stream.submit(EXAMPLE, seed=seed) for seed in range(10)]
        assert [f.result().samples.tolist() for f in futures] == [
            client.sample(EXAMPLE, seed=s).samples.tolist() for s in (*range(10), *range(10))
        ]


# ------------------------------------------------------------------------------------------------ samplerctl


def test_sample_table(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [
        "sample",
        "--logits",
        "1,2,0.5,1.5",
        "--temperature",
        "0.7",
        "-n",
        "20000",
        "--seed",
        "5",
        "--server",
        address,
    ]
    assert main(argv) == 0
    out = capsys.readouterr().out
    for expected in ("0.1298", "0.5416", "0.0635", "0.2651", "seed 5", "chi-square", "p = "):
        assert expected in out


def test_sample_jsonl_and_npy(address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "rows.npy", np.array([EXAMPLE, EXAMPLE[::-1]], dtype=np.float32))
    source = ["sample", "--npy", str(tmp_path / "rows.npy"), "--seed", "5", "-n", "7", "--server", address]
    assert main([*source, "--output", "npy", "-o", str(tmp_path / "out.npy")]) == 0
    samples = np.load(tmp_path / "out.npy")
    assert samples.shape == (2, 7)
    assert main([*source, "--output", "jsonl"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["samples"] for record in records] == samples.tolist()
    assert records[0]["seed"] == 5


def test_what_was_drawn_comes_first(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["sample", "--logits", "1,2,0.5,1.5;1,nan,1,1", "--temperature", "0.7", "--seed", "42", "--server", address]
    assert main([*argv, "-n", "8", "--logprobs", "raw"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["row 0 drawn: 1 3 3 2 1 1 1 1", "row 1 drawn: nothing, it failed", ""]
    assert main(["sample", "--logits", "1,2", "-n", "1000", "--show", "3", "--server", address]) == 0
    assert re.fullmatch(r"drawn: [01] [01] [01] \.\.\. and 997 more", capsys.readouterr().out.splitlines()[0])


ASKS: dict[str, dict[str, Any]] = {
    "plain": {"num_samples": 200},
    "filters": {
        "num_samples": 50,
        "params": pb.SamplingParams(top_k=40, top_p=0.9, min_p=0.01, xtc_threshold=0.1, xtc_probability=0.5),
        "outputs": pb.Outputs(logprobs=[1, 2, 3], top_n=5, logprob_ids=[0, 7], rank=True, kept=True, entropy=[1, 2, 3]),
    },
    "without replacement": {
        "num_samples": 60,
        "replacement": pb.REPLACEMENT_WITHOUT,
        "outputs": pb.Outputs(logprobs=[3], raw_samples=True),
    },
    "weights and seeds of rows": {"num_samples": 20, "kind": pb.INPUT_KIND_PROBABILITIES, "row_seeds": [1, 2, 3]},
    "adaptive-p": {
        "num_samples": 9,
        "params": pb.SamplingParams(adaptive_target=0.3, adaptive_weighted_sum=0.2, adaptive_total_weight=1.5),
        "outputs": pb.Outputs(adaptive_state=True),
    },
    "greedy": {"num_samples": 4, "params": pb.SamplingParams(temperature=0)},
}


@pytest.mark.parametrize("binary", [False, True], ids=["json", "binary"])
@pytest.mark.parametrize("name", ASKS)
def test_a_served_reply_is_replayed_without_a_server(
    name: str, binary: bool, address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = np.random.default_rng(5).standard_normal((3, 500)).astype("<f4")
    numbers = np.abs(rows) if "weights" in name else rows
    request = pb.SampleRequest(**ASKS[name], tensor=pb.Tensor(rows=3, vocab_size=500, data=numbers.tobytes()))
    with grpc.insecure_channel(address) as channel:
        reply = sampler_pb2_grpc.SamplerServiceStub(channel).Sample(request)
    for path, message in (("request", request), ("reply", reply)):
        data = message.SerializeToString() if binary else MessageToJson(message).encode()
        (tmp_path / path).write_bytes(data)
    # The server's kernels sum in float32: 1e-6 of all mass is allowed for at a boundary, as samplerctl verify does.
    assert main(["replay", str(tmp_path / "request"), str(tmp_path / "reply")]) == 0
    assert capsys.readouterr().out.startswith("ok: ")


@pytest.mark.parametrize(
    "flags", [["--top-p", "0.9", "--temperature", "0.7"], ["--logprobs", "raw", "--output", "jsonl"]]
)
def test_what_sample_saves_is_replayed(
    flags: list[str], address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "drawn.json")
    asked = ["--logits", "1,2,0.5,1.5;0,1,0,1", "-n", "7", "--server", address, "--save", path]
    assert main(["sample", *asked, *flags]) == 0
    capsys.readouterr()
    assert main(["replay", path]) == 0
    assert "2 rows x 7 samples" in capsys.readouterr().out
    saved = json.loads((tmp_path / "drawn.json").read_text())
    drawn = np.frombuffer(base64.b64decode(saved["reply"]["rawSamples"]), "<i4")
    saved["reply"]["rawSamples"] = base64.b64encode(((drawn + 1) % 4).astype("<i4").tobytes()).decode()
    (tmp_path / "drawn.json").write_text(json.dumps(saved))
    assert main(["replay", path]) == 4
    assert main(["sample", *asked[:-1], str(tmp_path)]) == 2
    assert f"--save: cannot write {tmp_path}" in capsys.readouterr().err


def test_a_served_verdict_is_replayed(address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = np.random.default_rng(3)
    target, weights = numbers.normal(size=(4, 50)).astype("<f4"), numbers.random(size=(3, 50)).astype("<f4")
    request = pb.VerifyDraftRequest(
        params=pb.SamplingParams(temperature=0.7, top_p=0.9),
        draft_ids=target[:3].argmax(axis=1).tolist(),
        draft=pb.Tensor(rows=3, vocab_size=50, data=weights.tobytes()),
        target=pb.Tensor(rows=4, vocab_size=50, data=target.tobytes()),
    )
    with grpc.insecure_channel(address) as channel:
        reply = sampler_pb2_grpc.SamplerServiceStub(channel).VerifyDraft(request)
    (tmp_path / "request").write_bytes(request.SerializeToString())
    (tmp_path / "reply").write_text(MessageToJson(reply))
    assert main(["replay", "--draft", str(tmp_path / "request"), str(tmp_path / "reply")]) == 0
    assert capsys.readouterr().out.startswith("ok: the verdict follows")


def test_a_row_that_fails_is_told(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", "--logits", "1,2;nan,1", "--output", "jsonl", "--server", address]) == 1
    streams = capsys.readouterr()
    assert "row 1 failed" in streams.err
    assert json.loads(streams.out.splitlines()[1])["error"]["reason"] == "NAN"
    assert main(["sample", "--logits", "1,2", "--temperature", "-1", "--server", address]) == 1
    assert "params.temperature" in capsys.readouterr().err


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--server", "127.0.0.1:1", "--timeout", "5"]) == 3
    error = capsys.readouterr().err
    assert error.startswith("samplerctl: no samplerd answers at 127.0.0.1:1")


def test_info(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--server", address]) == 0
    assert "philox4x32-10/2" in capsys.readouterr().out
    assert main(["info", "--server", address, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["health"] == "SERVING"
    assert record["limits"]["max_vocab_size"] > 0


WAYS = [[], ["--stream"], ["--shared-memory", PREFIX], ["--stream", "--shared-memory", PREFIX], ["--coalesce"]]


@pytest.mark.parametrize("mode", WAYS)
def test_bench(address: str, mode: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    rows = 1 if "--coalesce" in mode else 2
    load = ["--vocab-size", "100", "--rows", str(rows), "--concurrency", "4", "--duration", "0.3", "--warm-up", "0"]
    assert main(["bench", *load, *mode, "--dtype", "bf16", "--json", "--server", address]) == 0
    streams = capsys.readouterr()
    figures = json.loads(streams.out)
    assert figures["requests"] > 0
    assert figures["rows_per_s"] == pytest.approx(rows * figures["requests_per_s"])
    assert figures["errors"] == 0
    assert 0 < figures["p50_s"] <= figures["p99_s"] <= figures["max_s"]
    assert streams.err == "", "no progress line unless on a terminal"
    assert main(["bench", *load, *mode, "--server", address]) == 0
    assert "rows/s" in capsys.readouterr().out


@pytest.mark.parametrize("other", [["--rows", "2"], ["--shared-memory", PREFIX]])
def test_bench_coalesces_single_rows_in_messages(
    address: str, other: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *other, "--coalesce", "--server", address]) == 2
    assert "--coalesce" in capsys.readouterr().err


def test_verify(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", address, "--draws", "20000"]) == 0
    out = capsys.readouterr().out
    assert "0 failed" in out
    assert "FAILED" not in out


async def test_verify_finds_a_server_that_lies(capsys: pytest.CaptureFixture[str]) -> None:
    """A server that always answers with the argmax, and accepts every draft, is no sampler."""
    server, target = await fake_sampler.start(fake_sampler.FakeSampler())
    assert await asyncio.to_thread(main, ["verify", target, "--draws", "2000", "--vocab-size", "50"]) == 4
    out = capsys.readouterr().out
    verdicts = {line[:29].strip(): "FAILED" in line for line in out.splitlines()[4:]}
    assert verdicts["draws can be replayed"]
    assert verdicts["the worked example fits"]
    assert verdicts["ordered pairs fit"]
    assert verdicts["drafts can be replayed"]
    assert verdicts["verified drafts fit"]
    assert verdicts["verified trees fit"]
    assert not verdicts["temperature 0 is argmax"]
    await server.stop(0)


def test_the_reader_of_our_output_may_leave(address: str) -> None:
    command = [sys.executable, "-m", "samplerd_client.samplerctl", "sample", "--logits", "1,2,3", "-n", "1000000"]
    with subprocess.Popen(
        [*command, "--output", "jsonl", "--server", address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONASYNCIODEBUG": ""},  # it would have asyncio write to standard error
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 141


def test_distributions_from_the_command_line(address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server = ("--server", address)
    file = tmp_path / "weights.npy"
    np.save(file, np.array([0.0, 1.0, 0.0], np.float32))
    create = ("distribution", "create", "--npy", str(file), "--weights", "--name", "words", "--ttl", "60")
    assert main([*create, "--temperature", "0.5", *server]) == 0
    assert "weights" in capsys.readouterr().out
    assert main(["sample", "--distribution", "words", "-n", "4", "--output", "jsonl", *server]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == [1, 1, 1, 1]
    for action in (("list",), ("show", "words")):
        assert main(["distribution", *action, "--json", *server]) == 0
        record = json.loads(capsys.readouterr().out)
        assert (record["name"], record["vocab_size"], record["are_probabilities"]) == ("words", 3, True)
    assert main(["distribution", "list", *server]) == 0
    assert capsys.readouterr().out.split()[12:16] == ["words", "1", "3", "weights"]
    assert main([*create, *server]) == 1
    assert "named words already" in capsys.readouterr().err
    assert main(["distribution", "delete", "words", *server]) == 0
    assert main(["distribution", "delete", "words", *server]) == 1
    assert "no distribution named words" in capsys.readouterr().err


def add_and_end(progress: Any, chunk: Any) -> None:
    """Count a chunk as `_Progress.add` does, and end the draw."""
    progress.done += len(chunk.samples)
    progress._seed = chunk.seed
    raise OSError("interrupted by a test")


def test_any_number_is_drawn_from_the_command_line(
    address: str, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In several calls where one cannot hold as many, and with what it takes to go on where it ended."""
    monkeypatch.setattr("samplerd_client.samplerctl.distribution_draw._MOST_IN_A_CALL", 300_000)
    with SyncSamplerClient(address) as client:
        client.create_distribution([0.0, 1.0, 2.0], name="one")
        client.create_distribution([[0.0, 1.0, 2.0]] * 2, name="two")
        whole = client.sample(distribution="one", num_samples=700_000, seed=5, temperature=0.5).samples
        file = tmp_path / "samples.npy"
        own = ("--seed", "5", "--temperature", "0.5", "--server", address)
        assert main(["distribution", "draw", "one", "-n", "700000", "--output", "npy", "-o", str(file), *own]) == 0
        assert np.array_equal(np.load(file), whole)
        told = capfdbinary.readouterr()
        assert told.out == b""
        assert b"700,000 of 700,000 samples in " in told.err
        assert told.err.endswith(b", seed 5\n")
        assert main(["distribution", "draw", "one", "-n", "3", "--draw-offset", "699997", *own]) == 0
        assert [int(line) for line in capfdbinary.readouterr().out.split()] == whole[0, -3:].tolist()
        # Without a seed all calls draw by the one that the first was told.
        assert main(["distribution", "draw", "one", "-n", "400000", "--server", address]) == 0
        told = capfdbinary.readouterr()
        seed = int(told.err.split()[-1])
        again = client.sample(distribution="one", num_samples=400_000, seed=seed).samples
        assert np.array_equal(np.array(told.out.split(), np.int32), again[0])
        assert (
            main(["distribution", "draw", "two", "-n", "2", "--output", "npy", "--seed", "1", "--server", address]) == 0
        )
        drawn = np.load(io.BytesIO(capfdbinary.readouterr().out))
        assert np.array_equal(drawn, client.sample(distribution="two", num_samples=2, seed=1).samples)
        # A file whose draw was interrupted holds what had come.
        monkeypatch.setattr("samplerd_client.samplerctl.distribution_draw._Progress.add", add_and_end)
        assert main(["distribution", "draw", "one", "-n", "700000", "--output", "npy", "-o", str(file), *own]) == 2
        assert b"to go on: -n " in capfdbinary.readouterr().err
        part = np.load(file)
        assert 0 < part.shape[1] < 700_000
        assert np.array_equal(part, whole[:, : part.shape[1]])
        for name in ("one", "two"):
            client.delete_distribution(name)
    assert main(["distribution", "draw", "one", "-n", "3", *own]) == 1
    assert b"no distribution named one" in capfdbinary.readouterr().err


async def serve(rpc: str, handler: Any, answer: Any) -> tuple[grpc.aio.Server, int]:
    """Start a server that has one RPC, which draws; returns it and its port."""
    server = grpc.aio.server()
    handlers = {rpc: handler(answer, pb.SampleRequest.FromString, pb.SampleResponse.SerializeToString)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("samplerd.v1.SamplerService", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, port


async def test_a_server_from_before_the_rpc_draws_by_a_stream() -> None:
    asked = []

    async def draw(requests: Any, _context: object) -> Any:
        async for request in requests:
            asked.append((request.distribution, request.num_samples))
            yield pb.SampleResponse(samples=[1, 2], chunk=0)
            yield pb.SampleResponse(samples=[3], chunk=1, final=True)

    server, port = await serve("SampleStream", grpc.stream_stream_rpc_method_handler, draw)
    async with SamplerClient(f"127.0.0.1:{port}") as client:
        chunks = [chunk async for chunk in client.draw_chunks(distribution="words", num_samples=3)]
    await server.stop(None)
    assert asked == [("words", 3)]
    assert [(chunk.offset, chunk.samples.tolist()) for chunk in chunks] == [(0, [1, 2]), (2, [3])]


async def test_a_large_draw_is_tried_again_until_its_first_chunk() -> None:
    asked: list[str] = []

    async def draw(request: Any, context: Any) -> Any:
        asked.append(request.distribution)
        if request.distribution == "busy" and len(asked) <= 2:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        yield pb.SampleResponse(samples=[1], chunk=0)
        if request.distribution == "broken":
            await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        yield pb.SampleResponse(samples=[2], chunk=1, final=True)

    server, port = await serve("SampleDistribution", grpc.unary_stream_rpc_method_handler, draw)
    policy = RetryPolicy(initial_backoff_s=0.001, max_backoff_s=0.001)
    async with SamplerClient(f"127.0.0.1:{port}", retry=policy) as client:
        busy = [chunk.samples.tolist() async for chunk in client.draw_chunks(distribution="busy")]
        broken = client.draw_chunks(distribution="broken")
        assert (await anext(broken)).samples.tolist() == [1]
        with pytest.raises(UnavailableError):
            await anext(broken)
    await server.stop(None)
    assert busy == [[1], [2]]
    assert asked == ["busy", "busy", "busy", "broken"]


async def test_a_large_draw_that_is_read_to_its_end_ends_with_ok() -> None:
    ended: list[bool] = []

    async def draw(_request: Any, _context: Any) -> Any:
        yield pb.SampleResponse(samples=[1], chunk=0, final=True)
        try:
            await asyncio.sleep(0.2)  # the status comes after the last part
        except asyncio.CancelledError:
            ended.append(False)
            raise
        ended.append(True)

    server, port = await serve("SampleDistribution", grpc.unary_stream_rpc_method_handler, draw)
    async with SamplerClient(f"127.0.0.1:{port}") as client:
        assert [chunk.is_final async for chunk in client.draw_chunks(distribution="words")] == [True]
    await server.stop(None)
    assert ended == [True]


def test_large_draws_of_the_synchronous_client(address: str) -> None:
    with SyncSamplerClient(address) as client:
        made = client.create_distribution([0.0, 1.0])
        chunks = list(client.draw_chunks(distribution=made.name, num_samples=600_000, seed=1))
        assert [len(chunk.samples) for chunk in chunks] == [262_144, 262_144, 75_712]
        for chunk in client.draw_chunks(distribution=made.name, num_samples=1 << 31):
            assert not chunk.is_final
            break
        client.delete_distribution(made.name)
        assert client.list_distributions() == []
