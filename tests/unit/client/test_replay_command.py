"""samplerctl replay, without a server: the replies are those of the float64 reference, and what is made of them."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.json_format import MessageToJson

from client.conformance.cases import Case, cases
from client.conformance.replies import sample_reply
from samplerd.v1 import sampler_pb2 as pb
from samplerd_client.samplerctl import main

EXAMPLE = [1.0, 2.0, 0.5, 1.5]
ALL = list(cases())
UPLOADS = {case.request.name: case.request for case in ALL if isinstance(case.request, pb.CreateDistributionRequest)}
ANSWERED = [
    case for case in ALL if case.failure is None and case.rpc == "Sample" and isinstance(case.request, pb.SampleRequest)
]
ALL_FAIL = [case.failure for case in ALL if case.failure is not None]


def example(**fields: Any) -> pb.SampleRequest:
    fields.setdefault("values", pb.Values(row=[pb.Values.Row(values=EXAMPLE)]))
    fields.setdefault("params", pb.SamplingParams(temperature=0.7))
    return pb.SampleRequest(**{"num_samples": 5, **fields})


def reply_to(request: pb.SampleRequest) -> pb.SampleResponse:
    inline = pb.SampleRequest()
    inline.CopyFrom(request)
    if request.HasField("distribution"):
        upload = UPLOADS[request.distribution]
        inline.tensor.CopyFrom(upload.tensor)
        inline.kind = upload.kind
    return sample_reply(inline)


def write(folder: Path, name: str, *messages: Any, binary: bool = False) -> str:
    path = folder / name
    if binary:
        path.write_bytes(messages[0].SerializeToString())
    else:
        path.write_text("\n".join(MessageToJson(message) for message in messages))
    return str(path)


@pytest.mark.parametrize("case", ANSWERED, ids=lambda case: case.name)
def test_every_call_of_the_conformance_suite_is_replayed(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = case.request
    assert isinstance(request, pb.SampleRequest)
    paths = [write(tmp_path, "q", request, binary=True), write(tmp_path, "a", reply_to(request))]
    if request.HasField("distribution"):
        paths += ["--upload", write(tmp_path, "u", UPLOADS[request.distribution], binary=True)]
    assert main(["replay", *paths]) == 0
    out = capsys.readouterr().out
    assert out.startswith("ok: ")
    assert "DIFFERS" not in out


def test_there_are_cases() -> None:
    assert len(ANSWERED) > 100
    assert sum(request.HasField("distribution") for case in ANSWERED if (request := case.request)) > 0


def test_a_draw_is_shown_with_its_counter_uniform_and_interval(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The numbers of docs/sampling.md: 0.1298, 0.5416, 0.0635 and 0.2651 at T = 0.7; draw 2 of seed 42 is 3."""
    request = example(seed=42, draw_offset=2, num_samples=2)
    paths = [write(tmp_path, "q", request), write(tmp_path, "a", sample_reply(request))]
    assert main(["replay", *paths]) == 0
    shown = next(line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("0  2 0 0 0"))
    cells = shown.split()
    uniform, lower, upper = float(cells[5]), float(cells[6].strip("[,")), float(cells[7].strip(")"))
    assert lower == pytest.approx(0.1298 + 0.5416 + 0.0635, abs=1e-4)
    assert upper == 1.0
    assert lower <= uniform < upper
    assert cells[8:] == ["3", "3", "same"]
    assert main(["replay", *paths, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["draws"][0]["counter"] == [2, 0, 0, 0]
    assert record["draws"][0]["uniform"] == pytest.approx(uniform, abs=1e-12)
    assert record["kept_ids"] == [1, 3, 0, 2]


@pytest.mark.parametrize("replacement", [pb.REPLACEMENT_WITH, pb.REPLACEMENT_WITHOUT])
def test_a_changed_sample_is_found(replacement: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = example(num_samples=3, replacement=replacement, seed=42)
    reply = sample_reply(request)
    reply.samples[1] = ({0, 1, 2, 3} - set(reply.samples)).pop()
    assert main(["replay", write(tmp_path, "q", request), write(tmp_path, "a", reply)]) == 4
    out = capsys.readouterr().out
    assert out.startswith("DIFFERS: 2 of 3 draws follow")
    assert sum(line.endswith("DIFFERS") for line in out.splitlines()) == 1


OUTPUTS: dict[str, Any] = {
    "ranks": lambda reply: reply.ranks.__setitem__(2, 4),
    "kept_count": lambda reply: reply.kept_count.__setitem__(0, 1),
    "kept_mass": lambda reply: reply.kept_mass.__setitem__(0, 0.5),
    "entropies[SCALED]": lambda reply: reply.entropies[0].nats.__setitem__(0, 7.0),
    "logprobs[PROCESSED].samples": lambda reply: reply.logprobs[0].samples.__setitem__(1, -0.1),
    "logprobs[PROCESSED].top_ids": lambda reply: reply.logprobs[0].top_ids.__setitem__(0, 2),
    "logprobs[PROCESSED].named": lambda reply: reply.logprobs[0].named.pop(),
    "row_errors": lambda reply: reply.row_errors.add(row=0, reason=1),
    "adaptive_weighted_sum": lambda reply: reply.adaptive_weighted_sum.append(1.0),
}


@pytest.mark.parametrize("field", OUTPUTS)
def test_a_changed_output_is_named(field: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = pb.Outputs(
        rank=True, kept=True, entropy=[pb.LOGPROB_KIND_SCALED], logprobs=[pb.LOGPROB_KIND_PROCESSED], top_n=2
    )
    outputs.logprob_ids.extend([0, 3])
    request = example(outputs=outputs, params=pb.SamplingParams(temperature=0.7, top_k=3), seed=1)
    reply = sample_reply(request)
    OUTPUTS[field](reply)
    assert main(["replay", write(tmp_path, "q", request), write(tmp_path, "a", reply)]) == 4
    assert f"DIFFERS: {field}: " in capsys.readouterr().out


def test_a_neighbour_within_rounding_of_the_boundary_is_legal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The uniform of the first draw of seed 42 lies exactly on the boundary, within 1e-9, of two weights."""
    from samplerd_client.philox import uniforms  # noqa: PLC0415

    u = float(uniforms(42, 1)[0])
    weights = np.array([[u * (1 + 1e-9), 1 - u]], np.float64)
    tensor = pb.Tensor(dtype=pb.DTYPE_F32, rows=1, vocab_size=2, data=weights.astype("<f4").tobytes())
    request = pb.SampleRequest(tensor=tensor, kind=pb.INPUT_KIND_PROBABILITIES, seed=42)
    for token in (0, 1):
        reply = sample_reply(request)
        reply.samples[0] = token
        assert main(["replay", write(tmp_path, "q", request), write(tmp_path, "a", reply)]) == 0
    assert "neighbour, within rounding" in capsys.readouterr().out


def test_several_messages_are_matched_and_chunks_are_joined(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    requests = [example(id=number, seed=number, outputs=pb.Outputs(logprobs=[1])) for number in (3, 9)]
    replies = []
    for request in reversed(requests):
        whole = sample_reply(request)
        for chunk, part in enumerate((slice(0, 2), slice(2, 5))):
            reply = pb.SampleResponse(id=whole.id, seed=whole.seed, rng=whole.rng, chunk=chunk, final=chunk == 1)
            reply.samples.extend(whole.samples[part])
            reply.logprobs.add(kind=1, samples=whole.logprobs[0].samples[part])
            replies.append(reply)
    assert main(["replay", write(tmp_path, "q", *requests), write(tmp_path, "a", *replies)]) == 0
    out = capsys.readouterr().out
    assert out.count("ok: 5 of 5 draws follow") == 2
    assert "(id 3)" in out
    assert main(["replay", write(tmp_path, "q", *requests), write(tmp_path, "a", *replies[:-1])]) == 2
    assert "final: the reply with id 3" in capsys.readouterr().err
    assert main(["replay", write(tmp_path, "q", *requests[:1]), write(tmp_path, "a", *replies)]) == 2
    assert "no request has the id 9" in capsys.readouterr().err


def _with(message: Any, **fields: Any) -> Any:
    copy = type(message)()
    copy.CopyFrom(message)
    for name, value in fields.items():
        setattr(copy, name, value)
    return copy


def _refusals() -> dict[str, tuple[Any, Any]]:
    request = example(seed=1)
    reply = sample_reply(request)
    shared = pb.SharedMemory(key="k", byte_size=16, rows=1, vocab_size=4)
    on_card = pb.CudaSharedMemory(region="r", byte_size=16, rows=1, vocab_size=4)
    failed = pb.SampleResponse(rng=reply.rng, final=True)
    failed.error.message = "queue full"
    return {
        "rng: the reply is drawn with 'philox4x32-10/9'": (request, _with(reply, rng="philox4x32-10/9")),
        "rng: the reply does not say": (request, _with(reply, rng="")),
        "seed: the reply has 2": (request, _with(reply, seed=2)),
        "id: no reply": (request, _with(reply, id=5)),
        "samples: the reply has 5, where 1 rows x 6": (_with(request, num_samples=6), reply),
        "raw_samples: the reply has 0": (example(seed=1, outputs=pb.Outputs(raw_samples=True)), reply),
        "error: nothing was drawn for the request with id 0: queue full": (request, failed),
        "chunk: ": (request, _with(reply, chunk=1)),
        "shared_memory: the numbers are not in": (pb.SampleRequest(shared_memory=shared, seed=1), reply),
        "guidance.shared_memory: ": (example(seed=1, guidance=pb.Guidance(shared_memory=shared)), reply),
        "cuda_shared_memory: the numbers": (pb.SampleRequest(cuda_shared_memory=on_card, seed=1), reply),
        "guidance.cuda_shared_memory: ": (example(seed=1, guidance=pb.Guidance(cuda_shared_memory=on_card)), reply),
        "distribution: the rows of 'd' are not": (pb.SampleRequest(distribution="d", seed=1), reply),
        "request: params.temperature: ": (example(seed=1, params=pb.SamplingParams(temperature=-1)), reply),
    }


REFUSALS = _refusals()


@pytest.mark.parametrize("text", REFUSALS)
def test_what_cannot_be_replayed_is_named(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request, reply = REFUSALS[text]
    assert main(["replay", write(tmp_path, "q", request), write(tmp_path, "a", reply)]) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert text in streams.err
    assert streams.err.count("\n") == 1


def test_fields_of_another_message_or_version_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reply = write(tmp_path, "a", sample_reply(example(seed=1)))
    (tmp_path / "draft").write_text('{"draftIds": [1]}')
    assert main(["replay", str(tmp_path / "draft"), reply]) == 2
    error = capsys.readouterr().err
    assert '"draftIds"' in error
    assert "--draft is for those of VerifyDraft" in error
    newer = example(seed=1).SerializeToString() + b"\xc8\x3e\x01"  # field 1001, a varint
    (tmp_path / "newer").write_bytes(newer)
    assert main(["replay", str(tmp_path / "newer"), reply]) == 2
    assert "it has a field 1001" in capsys.readouterr().err
    nested = pb.SampleRequest.FromString(b"\x12\x03\xc8\x3e\x01")  # within params
    (tmp_path / "nested").write_bytes(nested.SerializeToString())
    assert main(["replay", str(tmp_path / "nested"), reply]) == 2
    assert "it has a field 1001 of params" in capsys.readouterr().err


@pytest.mark.parametrize("binary", [False, True])
def test_standard_input(
    binary: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    request = example(seed=123)  # " {" in a binary message that begins with its seed
    reply = sample_reply(request)
    data = reply.SerializeToString() if binary else MessageToJson(reply).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert main(["replay", write(tmp_path, "q", request, binary=binary), "-"]) == 0
    assert main(["replay", "-", "-"]) == 2
    assert "standard input can be only one of" in capsys.readouterr().err


def test_a_binary_message_that_begins_like_json_is_read(tmp_path: Path) -> None:
    request = pb.SampleRequest(seed=123, distribution="d")
    assert request.SerializeToString().startswith(b" {")
    upload = pb.CreateDistributionRequest(name="d", values=pb.Values(row=[pb.Values.Row(values=EXAMPLE)]))
    reply = sample_reply(pb.SampleRequest(seed=123, values=upload.values))
    paths = [write(tmp_path, "q", request, binary=True), write(tmp_path, "a", reply)]
    assert main(["replay", *paths, "--upload", write(tmp_path, "u", upload)]) == 0


def test_fixed_parameters_come_from_the_upload(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fixed = pb.SamplingParams(top_k=2)
    upload = pb.CreateDistributionRequest(name="d", params=fixed, values=pb.Values(row=[pb.Values.Row(values=EXAMPLE)]))
    reply = sample_reply(pb.SampleRequest(seed=4, values=upload.values, params=fixed, num_samples=9))
    request = pb.SampleRequest(seed=4, distribution="d", num_samples=9)
    paths = [write(tmp_path, "q", request), write(tmp_path, "a", reply), "--upload"]
    assert main(["replay", *paths, write(tmp_path, "u", upload)]) == 0
    assert "kept 2 ids (1, 3)" in capsys.readouterr().out
    upload.name = "other"
    assert main(["replay", *paths, write(tmp_path, "u", upload)]) == 2
    assert "names 'd', and the upload 'other'" in capsys.readouterr().err


def test_it_needs_neither_torch_nor_numba_nor_a_server(tmp_path: Path) -> None:
    request = example(seed=1)
    write(tmp_path, "q", request)
    write(tmp_path, "a", sample_reply(request))
    code = (
        f"import sys\nsys.path[:] = {sys.path!r}\nfrom samplerd_client.samplerctl import main\n"
        "status = main(['replay', 'q', 'a'])\n"
        "sys.exit(status or 'torch' in sys.modules or 'numba' in sys.modules or 'scipy' in sys.modules)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_bytes_in_json_are_base64(tmp_path: Path) -> None:
    """What a person writes for curl."""
    data = base64.b64encode(np.array(EXAMPLE, "<f4").tobytes()).decode()
    (tmp_path / "q").write_text(json.dumps({"tensor": {"vocab_size": 4, "data": data}, "num_samples": 2}))
    reply = sample_reply(example(seed=8, num_samples=2, params=pb.SamplingParams()))
    assert main(["replay", str(tmp_path / "q"), write(tmp_path, "a", reply)]) == 0


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("row_errors", [pb.RowError(row=0, reason=99)], "DIFFERS: row_errors: the reply has row 0 99; due is none"),
        ("logprobs", [pb.Logprobs(kind=77, samples=[1.0])], "DIFFERS: logprobs[77]: 1 numbers, where 0 are due"),
        ("entropies", [pb.Entropies(kind=77, nats=[1.0])], "DIFFERS: entropies[77]: 1 numbers, where 0 are due"),
    ],
)
def test_what_a_later_server_says_is_not_passed_over(
    field: str, value: Any, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = example()
    reply = reply_to(request)
    getattr(reply, field).extend(value)
    assert main(["replay", write(tmp_path, "q", request), write(tmp_path, "a", reply)]) == 4
    assert told in capsys.readouterr().out


def test_bytes_that_are_cut_off_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = pb.Outputs(raw_samples=True, logprobs=[pb.LOGPROB_KIND_RAW])
    question = write(tmp_path, "q", request := example(outputs=outputs))
    whole = reply_to(request)
    for name in ("raw_samples", "logprobs[RAW].raw_samples"):
        cut = pb.SampleResponse()
        cut.CopyFrom(whole)
        owner: Any = cut if name == "raw_samples" else cut.logprobs[0]
        owner.raw_samples = owner.raw_samples[:-1]
        assert main(["replay", question, write(tmp_path, "a", cut)]) == 2
        assert f"samplerctl: {name}: the reply has 19 bytes" in capsys.readouterr().err


def test_json_that_is_nested_too_deeply_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deep = tmp_path / "deep"
    deep.write_text('{"values":' * 20_000)
    assert main(["replay", str(deep), str(deep)]) == 2
    assert "nested too deeply" in capsys.readouterr().err


def test_one_file_must_be_one_that_sample_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = example(seed=1)
    both = {"request": json.loads(MessageToJson(request)), "reply": json.loads(MessageToJson(reply_to(request)))}
    saved = tmp_path / "saved"
    saved.write_text(json.dumps(both))
    assert main(["replay", str(saved)]) == 0
    assert main(["replay", write(tmp_path, "q", request)]) == 2
    assert "was not written by samplerctl sample --save: give REQUEST_FILE and REPLY_FILE" in capsys.readouterr().err
    saved.write_text(json.dumps({**both, "request": {"valeus": {}}}))
    assert main(["replay", str(saved)]) == 2
    assert (
        f'{saved}: request is no SampleRequest: Message type "samplerd.v1.SampleRequest" has no field named "valeus"'
        in (capsys.readouterr().err)
    )
