"""``samplerctl replay``: draws a saved request again without a server, and shows where each draw comes from."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from samplerd import __version__
from samplerd.v1 import sampler_pb2 as pb
from samplerd_client.samplerctl import render, replay_messages
from samplerd_client.samplerctl.flag_values import InputError
from samplerd_client.samplerctl.reference import (
    RNG,
    RowErrorReason,
    SamplerdError,
    decode,
    filters_on,
    replay,
)
from samplerd_client.samplerctl.replay_draft import replay_draft, write
from samplerd_client.samplerctl.replay_outputs import TOLERANCE, compare, from_raw

if TYPE_CHECKING:
    import argparse

    from numpy.typing import NDArray

    from samplerd_client.samplerctl.reference import RowReplay, SampleRequest

__all__ = ["FAILED", "run"]

FAILED = 4
"""The exit status when something does not follow."""
_LOW = (1 << 32) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Replay:
    """A request and its reply, replayed."""

    id: int
    request: SampleRequest
    rows: list[RowReplay]
    samples: NDArray[np.int64]
    """int64[B, S]: those of the reply."""
    outputs: dict[str, str]
    """What is wrong with each field of the reply beside the samples; "" = nothing."""

    @property
    def differing(self) -> int:
        """Draws that do not follow; those of a row that fails where the law draws, or the other way round, included."""
        return sum(_differing(row, own) for row, own in zip(self.rows, self.samples, strict=True))

    @property
    def is_ok(self) -> bool:
        """The reply says what the law says."""
        return self.differing == 0 and not any(self.outputs.values())


async def run(args: argparse.Namespace) -> int:
    """Replay and print; `FAILED` when something differs."""
    if args.draft:
        return _run_drafts(args)
    if [args.request, args.reply, args.upload].count("-") > 1:
        raise InputError("standard input can be only one of REQUEST_FILE, REPLY_FILE and --upload")
    if args.reply is None:
        requests, replies = replay_messages.read_saved(args.request)
    else:
        requests = replay_messages.read(args.request, pb.SampleRequest)
        replies = replay_messages.read(args.reply, pb.SampleResponse)
    uploads = [] if args.upload is None else replay_messages.read(args.upload, pb.CreateDistributionRequest)
    if len(uploads) > 1:
        raise InputError(f"{args.upload} holds {len(uploads)} messages: give the one of the distribution")
    pairs = replay_messages.pair(requests, replies)
    if uploads and not any(request.HasField("distribution") for request, _ in pairs):
        raise InputError("--upload is for a request that names a distribution, and none does")
    done = [_replay(request, reply, *uploads) for request, reply in pairs]
    for own in done:
        if args.json:
            sys.stdout.write("".join(json.dumps(record) + "\n" for record in _records(own)))
        else:
            sys.stdout.write("\n".join(_report(own, args.show)) + "\n")
    return 0 if all(own.is_ok for own in done) else FAILED


def _run_drafts(args: argparse.Namespace) -> int:
    """Verify saved drafts again."""
    if args.reply is None or args.upload is not None:
        raise InputError("--draft takes REQUEST_FILE and REPLY_FILE, and no --upload")
    if args.request == args.reply == "-":
        raise InputError("standard input can be only one of REQUEST_FILE and REPLY_FILE")
    requests = replay_messages.read(args.request, pb.VerifyDraftRequest)
    replies = {reply.id: reply for reply in replay_messages.read(args.reply, pb.VerifyDraftResponse)}
    missing = [request.id for request in requests if request.id not in replies]
    if missing or len(replies) != len(requests):
        raise InputError(
            f"id: {len(requests)} requests and {len(replies)} replies do not match; without a reply: {missing}"
        )
    done = [replay_draft(request, replies[request.id]) for request in requests]
    write(done, as_json=args.json)
    return FAILED if any(own.wrong for own in done) else 0


def _replay(
    request: pb.SampleRequest, reply: pb.SampleResponse, upload: pb.CreateDistributionRequest | None = None
) -> _Replay:
    if reply.rng != RNG:
        says = f"is drawn with {reply.rng!r}" if reply.rng else "does not say with which law it was drawn"
        raise InputError(f"rng: the reply {says}; this samplerctl replays {RNG}")
    whole = replay_messages.self_contained(request, reply, upload)
    try:
        asked = decode(whole.SerializeToString())
    except SamplerdError as error:
        raise InputError(f"request: {error}") from None
    is_raw = asked.outputs.raw_samples
    drawn = from_raw(reply.raw_samples, "<i4", "raw_samples") if is_raw else np.array(reply.samples)
    shape = (asked.rows, asked.num_samples)
    if drawn.size != asked.samples:
        name = "raw_samples" if is_raw else "samples"
        raise InputError(f"{name}: the reply has {drawn.size}, where {shape[0]} rows x {shape[1]} samples are due")
    samples = drawn.astype(np.int64).reshape(shape)
    rows = replay(asked, samples)
    return _Replay(
        id=request.id, request=asked, rows=rows, samples=samples, outputs=compare(asked, reply, rows, samples)
    )


def _differing(row: RowReplay, samples: NDArray[np.int64]) -> int:
    if row.outcome.reason is not RowErrorReason.NONE:
        return int(np.count_nonzero(samples != -1))
    return int(np.count_nonzero(~row.follows))


def _counter(own: _Replay, row: RowReplay, draw: int) -> list[int]:
    index = (own.request.draw_offset + draw) & ((1 << 64) - 1)
    return [index & _LOW, index >> 32, row.row_index, 0]


def _report(own: _Replay, show: int) -> list[str]:
    rows, count = own.samples.shape
    name = f" (id {own.id})" if own.id else ""
    same = own.samples.size - own.differing
    checked = [field for field, wrong in own.outputs.items() if not wrong]
    wrong = {field: text for field, text in own.outputs.items() if text}
    verdict = f"{render.count(same)} of {render.count(own.samples.size)} draws follow"
    lines = [
        f"{'ok' if own.is_ok else 'DIFFERS'}: {verdict}{name}",
        f"{render.count(rows)} row{'s' * (rows != 1)} x {render.count(count)} sample{'s' * (count != 1)}   {RNG}",
        f"replayed here, by the float64 reference of samplerd {__version__}; no server was asked",
    ]
    for field, text in wrong.items():
        lines.append(f"DIFFERS: {field}: {text}")
    if checked and any(row.follows.all() for row in own.rows):
        lines.append(f"the same to {TOLERANCE:g}, where a row's draws follow: {', '.join(checked)}")
    shown = [n for n in range(rows) if n < show or _differing(own.rows[n], own.samples[n])]
    for number in shown:
        lines += ["", *_row_report(own, number, show)]
    if len(shown) < rows:
        lines += ["", f"... and {render.count(rows - len(shown))} more rows, in which every draw follows"]
    return [*lines, ""]


def _row_report(own: _Replay, number: int, show: int) -> list[str]:
    row, samples = own.rows[number], own.samples[number]
    outcome = row.outcome
    title = f"row {number}   seed {row.seed}"
    if outcome.reason is not RowErrorReason.NONE:
        says = "the same" if (samples == -1).all() else "DIFFERS: it has samples"
        return [title, f"fails: {outcome.reason.name}; the reply: {says}"]
    lines = [title, *_law(row, show)]
    if row.params.is_greedy:
        lines.append("temperature 0: the most likely in turn, without random numbers")
    cells = []
    for draw in range(len(samples)):
        if draw >= show and row.follows[draw]:
            continue
        interval = f"[{row.lower[draw]:.12f}, {row.upper[draw]:.12f})"
        cells.append(
            [
                *(str(draw), " ".join(map(str, _counter(own, row, draw)))),
                *(("-", "-") if row.params.is_greedy else (f"{row.uniforms[draw]:.12f}", interval)),
                *(str(row.ids[draw]), str(samples[draw]), _verdict(row, samples, draw)),
            ]
        )
    lines.append(render.table(["draw", "counter", "uniform", "holds it", "id", "reply", ""], cells, "><<<>><"))
    if len(cells) < len(samples):
        lines.append(f"... and {render.count(len(samples) - len(cells))} more draws, which follow")
    return lines


def _verdict(row: RowReplay, samples: NDArray[np.int64], draw: int) -> str:
    if not row.follows[draw]:
        return "DIFFERS"
    return "same" if row.ids[draw] == samples[draw] else "neighbour, within rounding of the boundary"


def _law(row: RowReplay, show: int) -> list[str]:
    """Tell what the filters kept of a row that was drawn from."""
    outcome, state = row.outcome, row.outcome.processed
    assert state is not None, "a row was drawn from nothing. This is a bug."
    kept = state.ids[state.kept][:show]
    more = ", ..." if state.count > len(kept) else ""
    steps = filters_on(row.params)
    count = "some" if state.rest else render.count(state.count)
    lines = [f"kept {count} ids ({', '.join(map(str, kept))}{more}) with mass {outcome.kept_mass:.6f}"]
    if steps not in ([], ["temperature"]):
        lines[0] += f", after {', '.join(steps)}"
    if row.xtc_uniform is not None:
        acts = "acts" if row.xtc_uniform < row.params.xtc_probability else "does not act"
        lines.append(f"XTC {acts}: its uniform is {row.xtc_uniform:.12f}, xtc_probability {row.params.xtc_probability}")
    return lines


def _records(own: _Replay) -> list[dict[str, Any]]:
    """Return one JSON object for each row."""
    records = []
    for number, (row, samples) in enumerate(zip(own.rows, own.samples, strict=True)):
        outcome, state = row.outcome, row.outcome.processed
        record: dict[str, Any] = {"id": own.id, "row": number, "rng": RNG, "seed": row.seed}
        record |= {"ok": own.is_ok and _differing(row, samples) == 0, "outputs": own.outputs}
        if outcome.reason is not RowErrorReason.NONE or state is None:
            records.append({**record, "error": outcome.reason.name, "reply": samples.tolist(), "draws": []})
            continue
        record |= {"kept": state.count, "kept_mass": outcome.kept_mass, "kept_ids": state.ids[state.kept].tolist()}
        if row.xtc_uniform is not None:
            record["xtc_uniform"] = row.xtc_uniform
        record["draws"] = [
            {
                "draw": draw,
                "counter": _counter(own, row, draw),
                "uniform": None if row.params.is_greedy else float(row.uniforms[draw]),
                "lower": float(row.lower[draw]),
                "upper": float(row.upper[draw]),
                "id": int(row.ids[draw]),
                "reply": int(samples[draw]),
                "follows": bool(row.follows[draw]),
            }
            for draw in range(len(samples))
        ]
        records.append(record)
    return records
