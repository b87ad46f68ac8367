"""``samplerctl replay --draft``: verifies a saved draft again without a server, and shows what decides each token."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from samplerd_client.philox import PURPOSE_ACCEPT, PURPOSE_CORRECT, uniforms
from samplerd_client.replay import verdict_follows
from samplerd_client.samplerctl import render
from samplerd_client.samplerctl.flag_values import InputError
from samplerd_client.samplerctl.reference import RNG, DraftLaw, RowErrorReason, SamplerdError, verify_again

if TYPE_CHECKING:
    from samplerd.v1 import sampler_pb2 as pb

__all__ = ["DraftReplay", "replay_draft", "write"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftReplay:
    """A draft and its reply, verified again."""

    id: int
    law: DraftLaw
    reply: pb.VerifyDraftResponse
    seed: int
    wrong: str
    """What does not follow; "" = nothing."""

    @property
    def tried(self) -> list[dict[str, Any]]:
        """Each drafted token that was tried, in order, with the numbers that decide it."""
        law, path = self.law, list(self.reply.path)
        node, found = -1, []
        p = law.target[0]
        for index, token in enumerate(law.draft_ids):
            if law.parents[index] != node or p is None:
                continue
            q = law.draft[index]
            if q is None:
                break
            uniform = float(uniforms(self.seed, 1, row=index, draw_offset=law.draw_offset, purpose=PURPOSE_ACCEPT)[0])
            is_accepted = index in path
            found.append(
                {
                    "index": index,
                    "token": token,
                    "uniform": uniform,
                    "draft": float(q[token]),
                    "target": float(p[token]),
                    "accepted": is_accepted,
                }
            )
            if is_accepted:
                node, p = index, law.target[index + 1]
            else:
                left = np.maximum(p - q, 0.0)
                p = left / left.sum() if left.any() else p
        return found


def replay_draft(request: pb.VerifyDraftRequest, reply: pb.VerifyDraftResponse) -> DraftReplay:
    """Verify a draft again, and compare.

    Raises:
        InputError: the messages do not belong together, or are malformed; the message names the field.

    """
    if reply.HasField("error"):
        raise InputError(f"error: nothing was verified for the request with id {reply.id}: {reply.error.message}")
    if reply.rng != RNG:
        says = f"is drawn with {reply.rng!r}" if reply.rng else "does not say with which law it was drawn"
        raise InputError(f"rng: the reply {says}; this samplerctl replays {RNG}")
    if reply.id != request.id:
        raise InputError(f"id: the reply has {reply.id}, where the request has {request.id}")
    if request.HasField("seed") and request.seed != reply.seed:
        raise InputError(f"seed: the reply has {reply.seed}, where the request says {request.seed}")
    whole = type(request)()
    whole.CopyFrom(request)
    whole.seed = reply.seed
    try:
        law = verify_again(whole.SerializeToString())
    except SamplerdError as error:
        raise InputError(f"request: {error}") from None
    return DraftReplay(id=request.id, law=law, reply=reply, seed=reply.seed, wrong=_wrong(law, reply))


def _wrong(law: DraftLaw, reply: pb.VerifyDraftResponse) -> str:
    """Say what does not follow; "" = nothing."""
    expected = law.verdict
    samples, path = list(reply.samples), list(reply.path)
    if reply.accepted != len(path):
        return f"accepted: the reply has {reply.accepted}, and its path has {len(path)} tokens"
    failures = [(own.row, RowErrorReason(own.reason).name) for own in reply.row_errors]
    due = [] if expected.failed_row < 0 else [(expected.failed_row, expected.reason.name)]
    if (samples, path, failures) == (list(expected.samples), list(expected.path), due):
        return ""
    # Another verdict is right where a uniform lies within rounding of its boundary.
    if not due and not failures and law.is_whole:
        rows = np.stack([own for own in law.target if own is not None])
        draft = np.stack([own for own in law.draft if own is not None])
        if verdict_follows(
            np.array(samples, np.int32),
            rows,
            law.draft_ids,
            draft,
            seed=reply.seed,
            draw_offset=law.draw_offset,
            parents=law.parents,
            path=path,
        ):
            return ""
    return (
        f"the reply has samples {samples}, path {path} and failures {failures}; what follows is samples "
        f"{list(expected.samples)}, path {list(expected.path)} and failures {due}"
    )


def write(done: list[DraftReplay], *, as_json: bool) -> None:
    """Print what was found of each draft."""
    for own in done:
        if as_json:
            record = {"id": own.id, "rng": RNG, "seed": own.seed, "ok": not own.wrong, "wrong": own.wrong}
            record |= {"samples": list(own.reply.samples), "path": list(own.reply.path), "tried": own.tried}
            sys.stdout.write(json.dumps(record) + "\n")
        else:
            sys.stdout.write("\n".join(_report(own)) + "\n")


def _report(own: DraftReplay) -> list[str]:
    name = f" (id {own.id})" if own.id else ""
    last = int(own.reply.path[-1]) + 1 if own.reply.path else 0
    uniform = float(uniforms(own.seed, 1, row=last, draw_offset=own.law.draw_offset, purpose=PURPOSE_CORRECT)[0])
    cells = [
        [
            *(str(row["index"]), str(row["token"]), f"{row['uniform']:.12f}"),
            *(f"{row['draft']:.9f}", f"{row['target']:.9f}", "accepted" if row["accepted"] else "rejected"),
        ]
        for row in own.tried
    ]
    lines = [
        f"{'DIFFERS: ' + own.wrong if own.wrong else 'ok: the verdict follows'}{name}",
        f"{own.reply.accepted} of {len(own.law.draft_ids)} drafted tokens accepted   seed {own.seed}   {RNG}",
        "a token is accepted where uniform x draft < target",
        render.table(["draft", "token", "uniform", "draft", "target", ""], cells, ">>>>><"),
    ]
    if len(own.reply.samples) > len(own.reply.path):
        lines.append(f"then {own.reply.samples[-1]} from row {last}, with the uniform {uniform:.12f}")
    lines += [f"row {error.row} fails: {RowErrorReason(error.reason).name}" for error in own.reply.row_errors]
    return [*lines, ""]
