"""The client's own judgement of verified drafts: right verdicts follow their noise, wrong ones do not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from samplerd.v1 import sampler_pb2 as pb
from samplerd_client.replay import masses, verdict_follows
from samplerd_client.samplerctl import main
from samplerd_client.samplerctl.reference import RNG, verify_again
from samplerd_server.sampling.reference.verify import verify
from tests.support.drafts import ask_reference, chain, random_parents
from tests.support.samplers import encode, request

if TYPE_CHECKING:
    from pathlib import Path

WIDTH, LENGTH = 20, 3


def case(seed: int) -> tuple[np.ndarray, list[int], np.ndarray, np.ndarray]:
    numbers = np.random.default_rng(seed)
    target = numbers.normal(size=(LENGTH + 1, WIDTH)).astype(np.float32)
    weights = np.exp(target[:LENGTH] + 0.5 * numbers.normal(size=(LENGTH, WIDTH))).astype(np.float32)
    draft = weights.astype(np.float64) / weights.sum(axis=1, keepdims=True, dtype=np.float64)
    return target, [int(numbers.choice(WIDTH, p=row)) for row in draft], weights, draft


def test_verdicts_of_the_reference_follow_and_others_do_not() -> None:
    lengths = set()
    for seed in range(200):
        target, ids, weights, draft = case(seed)
        law = np.stack([masses(row) for row in target])
        verdict = verify(request(target, seed=seed, draw_offset=5), ids, chain(LENGTH), encode(weights))
        samples = np.array(verdict.samples, np.int32)

        def is_right(
            samples: np.ndarray, law=law, ids=ids, draft=draft, *, seed: int = seed, draw_offset: int = 5
        ) -> bool:
            return verdict_follows(samples, law, ids, draft, seed=seed, draw_offset=draw_offset)

        assert is_right(samples)
        lengths.add(len(samples))
        for last in range(WIDTH):
            if last != samples[-1]:
                assert not is_right(np.append(samples[:-1], np.int32(last)))
        assert not is_right(samples[:-1])
        assert not is_right(np.append(samples, np.int32(0)))
        if len(samples) > 1:
            assert not is_right(np.append((samples[:1] + 1) % WIDTH, samples[1:]))
    assert lengths == {1, 2, 3, 4}


@pytest.mark.parametrize(("seed", "draw_offset"), [(1, 0), (0, 1)])
def test_another_noise_is_told_apart(seed: int, draw_offset: int) -> None:
    follows = 0
    for number in range(50):
        target, ids, weights, draft = case(number)
        law = np.stack([masses(row) for row in target])
        verdict = verify(request(target, seed=0), ids, chain(LENGTH), encode(weights))
        samples = np.array(verdict.samples, np.int32)
        follows += verdict_follows(samples, law, ids, draft, seed=seed, draw_offset=draw_offset)
    assert follows < 25


def test_verdicts_on_trees_follow_with_their_path_alone() -> None:
    """Ten tokens of few kinds, so that several branches have the same tokens."""
    tokens, depths = 10, set()
    for seed in range(200):
        numbers = np.random.default_rng(seed)
        target = numbers.normal(size=(tokens + 1, 5)).astype(np.float32)
        weights = np.exp(numbers.normal(size=(tokens, 5))).astype(np.float32)
        draft = weights.astype(np.float64) / weights.sum(axis=1, keepdims=True, dtype=np.float64)
        ids, parents = [int(numbers.choice(5, p=row)) for row in draft], random_parents(numbers, tokens)
        said = ask_reference(request(target, seed=seed, draw_offset=2), ids, parents, encode(weights))
        law, samples = np.stack([masses(row) for row in target]), np.array(said.samples, np.int32)

        def is_right(
            path: list[int], samples=samples, law=law, ids=ids, draft=draft, parents=parents, seed=seed
        ) -> bool:
            return verdict_follows(samples, law, ids, draft, seed=seed, draw_offset=2, parents=parents, path=path)

        path = list(said.path)
        assert is_right(path)
        for other in range(tokens):
            if path and other != path[-1]:
                assert not is_right([*path[:-1], other])
        assert not is_right([*path, tokens])
        assert not is_right([*path, -1])
        depths.add(len(path))
    assert depths >= {0, 1, 2, 3}


def asked(seed: int, *, has_rows: bool = True, parents: list[int] | None = None) -> pb.VerifyDraftRequest:
    target, ids, weights, _ = case(seed)
    rows = {"draft": pb.Tensor(rows=LENGTH, vocab_size=WIDTH, data=weights.tobytes())} if has_rows else {}
    return pb.VerifyDraftRequest(
        id=seed,
        params=pb.SamplingParams(temperature=0.7, top_p=0.9),
        draft_ids=ids,
        parents=parents,
        target=pb.Tensor(rows=LENGTH + 1, vocab_size=WIDTH, data=target.tobytes()),
        draw_offset=5,
        **rows,
    )


def answered(request: pb.VerifyDraftRequest, seed: int) -> pb.VerifyDraftResponse:
    whole = pb.VerifyDraftRequest()
    whole.CopyFrom(request)
    whole.seed = seed
    verdict = verify_again(whole.SerializeToString()).verdict
    errors = [pb.RowError(row=verdict.failed_row, reason=int(verdict.reason))] if verdict.failed_row >= 0 else []
    return pb.VerifyDraftResponse(
        id=request.id,
        samples=verdict.samples,
        accepted=verdict.accepted,
        path=verdict.path,
        seed=seed,
        rng=RNG,
        row_errors=errors,
    )


def replay(folder: Path, request: pb.VerifyDraftRequest, reply: pb.VerifyDraftResponse, *flags: str) -> int:
    (folder / "request").write_bytes(request.SerializeToString())
    (folder / "reply").write_bytes(reply.SerializeToString())
    return main(["replay", "--draft", str(folder / "request"), str(folder / "reply"), *flags])


@pytest.mark.parametrize("parents", [None, [-1, -1, 0]])
@pytest.mark.parametrize("has_rows", [True, False])
def test_a_saved_verdict_is_replayed_and_another_is_not(
    has_rows: bool, parents: list[int] | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    accepted = set()
    for seed in range(1, 12):
        request = asked(seed, has_rows=has_rows, parents=parents)
        reply = answered(request, 77 + seed)
        assert replay(tmp_path, request, reply, "--json") == 0
        record = json.loads(capsys.readouterr().out)
        assert [own["index"] for own in record["tried"] if own["accepted"]] == list(reply.path)
        for own in record["tried"]:
            assert (own["uniform"] * own["draft"] < own["target"]) == own["accepted"]
        accepted.add(reply.accepted)
        reply.samples[-1] = (reply.samples[-1] + 1) % WIDTH
        assert replay(tmp_path, request, reply) == 4
        assert capsys.readouterr().out.startswith("DIFFERS: the reply has samples")
    assert len(accepted) > 1


def test_a_row_that_cannot_be_drawn_from_is_compared_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = asked(1)
    numbers = np.frombuffer(request.target.data, "<f4").copy()
    numbers[0] = np.nan
    request.target.data = numbers.tobytes()
    reply = answered(request, 5)
    assert [error.row for error in reply.row_errors] == [0]
    assert replay(tmp_path, request, reply) == 0
    assert "row 0 fails: NAN" in capsys.readouterr().out
    del reply.row_errors[:]
    assert replay(tmp_path, request, reply) == 4


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"rng": "other"}, "rng: the reply is drawn with 'other'"),
        ({"id": 9}, "id: 1 requests and 1 replies do not match"),
        ({"seed": 6}, "seed: the reply has 6, where the request says 5"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    change: dict[str, object], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = asked(1)
    request.seed = 5
    reply = answered(request, 5)
    reply.MergeFrom(pb.VerifyDraftResponse(**change))
    assert replay(tmp_path, request, reply) == 2
    assert told in capsys.readouterr().err
    assert main(["replay", "--draft", str(tmp_path / "request")]) == 2
