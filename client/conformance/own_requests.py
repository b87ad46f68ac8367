"""Requests that a client builds itself, from numbers and names: not from the bytes of a message."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np
from google.protobuf.json_format import MessageToDict

from client.conformance.cases import cases
from client.conformance.replies import draft_reply, sample_reply
from samplerd.v1 import sampler_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["chunks", "drafts", "guidance", "parameters"]

_SEED, _NUM_SAMPLES = 1234, 64
"""So many draws tell most parameters from none."""
_MOST_BYTES = 1024
_CHAIN, _TREE = [-1, 0, 1], [-1, -1, -1, 0, 0, 1, 1]
"""What each drafted token follows. The tree: three tokens follow the sequence, two each of the first two of these."""


def parameters() -> dict[str, Any]:
    """Give each set of parameters that `calls` tries on few numbers, by the names of the contract."""
    tables: list[Any] = []
    tried: list[dict[str, Any]] = []
    for case in cases():
        request = case.request
        if case.failure is not None or not isinstance(request, pb.SampleRequest) or not _is_plain(request):
            continue
        table = np.frombuffer(request.tensor.data, "<f4").reshape(-1, request.tensor.vocab_size).tolist()
        if table not in tables:
            tables.append(table)
        own = pb.SampleRequest(tensor=request.tensor, params=request.params, seed=_SEED, num_samples=_NUM_SAMPLES)
        tried.append(
            {
                "name": case.name,
                "table": tables.index(table),
                "params": MessageToDict(request.params, preserving_proto_field_name=True),
                "message": base64.b64encode(request.params.SerializeToString(deterministic=True)).decode(),
                "samples": list(sample_reply(own).samples),
            }
        )
    return {"tables": tables, "seed": _SEED, "num_samples": _NUM_SAMPLES, "cases": tried}


def chunks() -> dict[str, Any]:
    """Give the rows of a distribution, and draws from it that are larger than a chunk."""
    rows = _rows(2, 40, seed=3)
    cases: list[dict[str, Any]] = [
        {"name": "cut rows", "seed": 77, "draw_offset": 0, "temperature": 1.0, "num_samples": 1100},
        {"name": "whole rows", "seed": 78, "draw_offset": 1000, "temperature": 0.5, "num_samples": 600},
    ]
    for case in cases:
        own = {name: case[name] for name in ("seed", "draw_offset", "num_samples")}
        params = pb.SamplingParams(temperature=case["temperature"])
        case["samples"] = list(sample_reply(pb.SampleRequest(tensor=_tensor(rows), params=params, **own)).samples)
    return {"rows": rows.tolist(), "cases": cases}


def _is_plain(request: pb.SampleRequest) -> bool:
    """Whether a request has parameters for all its rows, and little else."""
    tensor = request.tensor
    has_numbers = tensor.dtype in {pb.DTYPE_UNSPECIFIED, pb.DTYPE_F32} and 0 < len(tensor.data) <= _MOST_BYTES
    has_more = request.HasField("guidance") or request.replacement or request.kind or request.row_seeds
    is_finite = bool(np.isfinite(np.frombuffer(tensor.data, "<f4")).all()) if has_numbers else False
    return bool(request.params.ListFields()) and has_numbers and is_finite and not has_more


def guidance() -> Iterator[dict[str, Any]]:
    """Give rows and guidance rows, as numbers."""
    own, other = _rows(2, 24, seed=1), _rows(2, 24, seed=2)
    for name, scale, top_k in (
        ("away from the guidance rows", 2.5, 0),
        ("towards the guidance rows", 0.25, 0),
        ("before a filter", 1.5, 4),
    ):
        request = pb.SampleRequest(
            tensor=_tensor(own),
            guidance=pb.Guidance(tensor=_tensor(other)),
            params=pb.SamplingParams(guidance_scale=scale, top_k=top_k),
            seed=_SEED,
            num_samples=12,
        )
        yield {
            "name": name,
            "rows": own.tolist(),
            "guidance": other.tolist(),
            "guidance_scale": scale,
            "top_k": top_k,
            "seed": _SEED,
            "num_samples": 12,
            "samples": list(sample_reply(request).samples),
        }


def drafts() -> Iterator[dict[str, Any]]:
    """Give drafts with the rows of both models, as numbers: chains, and trees with `parents`."""
    for name, parents in (("a chain", _CHAIN), ("a tree", _TREE)):
        target = _rows(len(parents) + 1, 8, seed=3)
        before = np.array(parents) + 1  # the row of the target that each token is judged by
        ranks = [parents[:token].count(parent) for token, parent in enumerate(parents)]  # among tokens of one parent
        ids = [int(np.argsort(-target[row])[rank]) for row, rank in zip(before, ranks, strict=True)]
        weights = np.exp(target[before] + _rows(len(parents), 8, seed=4))
        named = [] if parents is _CHAIN else parents
        yield from _drafts_of(name, ids, named, weights, target)
        yield from _drafts_of(f"{name}, greedy", ids, named, None, target)


def _drafts_of(name: str, ids: list[int], parents: list[int], weights: Any, target: Any) -> Iterator[dict[str, Any]]:
    for seed in _seeds_of_each_length(ids, parents, weights, target):
        reply = draft_reply(_draft(ids, parents, weights, target, seed))
        yield {
            "name": f"{name}, seed {seed}",
            "draft_ids": ids,
            "parents": parents,
            "draft": [] if weights is None else weights.tolist(),
            "target": target.tolist(),
            "temperature": 0.75,
            "seed": seed,
            "samples": list(reply.samples),
            "accepted": reply.accepted,
            "path": list(reply.path),
        }


def _seeds_of_each_length(ids: list[int], parents: list[int], weights: Any, target: Any) -> list[int]:
    """Find for each number of accepted tokens up to 3 the first seed that accepts that many, if one of 64 does."""
    found: dict[int, int] = {}
    for seed in range(64):
        found.setdefault(draft_reply(_draft(ids, parents, weights, target, seed)).accepted, seed)
    return [found[accepted] for accepted in range(4) if accepted in found]


def _draft(ids: list[int], parents: list[int], weights: Any, target: Any, seed: int) -> pb.VerifyDraftRequest:
    return pb.VerifyDraftRequest(
        draft_ids=ids,
        parents=parents,
        draft=None if weights is None else _tensor(weights),
        target=_tensor(target),
        params=pb.SamplingParams(temperature=0.75),
        seed=seed,
    )


def _rows(rows: int, size: int, *, seed: int) -> Any:
    return np.random.default_rng([13, seed, rows, size]).normal(0.0, 2.0, (rows, size)).astype(np.float32)


def _tensor(rows: Any) -> pb.Tensor:
    return pb.Tensor(rows=rows.shape[0], vocab_size=rows.shape[1], data=rows.astype("<f4").tobytes())
