"""``samplerctl sample``: draws, and prints observed beside expected frequencies."""

from __future__ import annotations

import io
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from samplerd_client.client import SamplerClient
from samplerd_client.errors import NotImplementedFieldError
from samplerd_client.replay import masses
from samplerd_client.samplerctl import inputs, render
from samplerd_client.samplerctl.connection import client_of
from samplerd_client.samplerctl.sample_options import sample_options
from samplerd_client.samplerctl.sample_outputs import arrays_of, records_of
from samplerd_client.samplerctl.sampling_flags import sampling_options
from samplerd_client.samplerctl.saved import KeepingClient, save
from samplerd_client.samplerctl.statistics import chi_square_fit

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from samplerd_client.options import SampleOptions
    from samplerd_client.result import SampleResult

__all__ = ["run"]

_MAX_NAMED = 65_536
"""Categories up to which the expected frequencies under filters are asked of the server."""

_BAR_WIDTH = 40
_SHOWN = 20
"""Ids and rows in the table, unless told otherwise."""


async def run(args: argparse.Namespace) -> int:
    """Draw and print; 1 when a row failed."""
    rows = _read(args)
    if args.output in {"npy", "npz"} and args.output_file is None and sys.stdout.isatty():
        text = f"--output {args.output} writes bytes: give a file with -o, or send standard output elsewhere"
        raise inputs.InputError(text)
    options = sample_options(args)
    options["guidance"] = inputs.read_guidance(args)
    wants_expected = args.output == "table" and rows is not None
    async with client_of(args, kind=SamplerClient if args.save is None else KeepingClient) as client:
        result, expected = await _draw(client, rows, options, args, wants_expected=wants_expected)
    if args.save is not None:
        save(client, args.save)
    if args.output == "npy":
        buffer = io.BytesIO()
        np.save(buffer, result.samples)
        _write(buffer.getvalue(), args.output_file)
    elif args.output == "npz":
        buffer = io.BytesIO()
        np.savez(buffer, **cast("Any", arrays_of(result, args.row_seeds)))
        _write(buffer.getvalue(), args.output_file)
    elif args.output == "jsonl":
        lines = "".join(json.dumps(entry) + "\n" for entry in records_of(result, args.row_seeds))
        _write(lines.encode(), args.output_file)
    else:
        encoding = "utf-8" if args.output_file else (sys.stdout.encoding or "ascii")
        unicode = encoding.lower().replace("-", "") == "utf8"
        text = _report(result, expected, args, unicode=unicode)
        _write(text.encode(encoding, errors="replace"), args.output_file)
    for error in result.row_errors:
        sys.stderr.write(f"samplerctl: row {error.row} failed: {error.message} ({error.reason.name})\n")
    return 1 if result.row_errors else 0


def _read(args: argparse.Namespace) -> NDArray[Any] | None:
    return None if args.distribution is not None else inputs.read_rows(args)


async def _draw(
    client: SamplerClient,
    rows: NDArray[Any] | None,
    options: SampleOptions,
    args: argparse.Namespace,
    *,
    wants_expected: bool,
) -> tuple[SampleResult, NDArray[np.float64] | None]:
    """Return the result, and the expected frequencies float64[B, V] where they can be known."""
    matrix = None if rows is None else np.atleast_2d(rows)
    given = set(sampling_options(args))
    if matrix is None or not wants_expected or not options["replacement"] or "xtc_probability" in given:
        return await client.sample(rows, **options), None
    if given <= {"temperature"}:
        result = await client.sample(rows, **options)
        failed = {error.row for error in result.row_errors}
        temperature, weights = args.temperature, options["probabilities"]
        law = [
            masses(row, 1.0 if temperature is None else temperature, probabilities=weights)
            if index not in failed
            else np.zeros(len(row))
            for index, row in enumerate(matrix)
        ]
        return result, np.array(law)
    if matrix.shape[1] > _MAX_NAMED:
        return await client.sample(rows, **options), None
    named: SampleOptions = {**options, "logprob_ids": list(range(matrix.shape[1]))}
    named["logprobs"] = cast("Any", (*dict.fromkeys((*options["logprobs"], "processed")),))
    try:
        result = await client.sample(rows, **named)
    except NotImplementedFieldError as error:
        if not error.name.startswith("outputs"):
            raise
        return await client.sample(rows, **options), None
    expected: NDArray[np.float64] = np.exp(result.named_logprobs["processed"].astype(np.float64))
    asked = {kind: values for kind, values in result.logprobs.items() if kind in options["logprobs"]}
    return replace(result, logprobs=asked), expected


def _report(
    result: SampleResult, expected: NDArray[np.float64] | None, args: argparse.Namespace, *, unicode: bool
) -> str:
    show = _SHOWN if args.show is None else args.show
    rows, width = result.samples.shape
    timing = result.timing
    failed = {error.row for error in result.row_errors}
    lines = [
        *_drawn(result, failed, show),
        "",
        f"{render.count(rows)} row{'s' * (rows != 1)} x {render.count(width)} sample{'s' * (width != 1)}",
        f"queued {render.milliseconds(timing.queue_s)}   computed {render.milliseconds(timing.compute_s)}",
        f"{_seeds(result.seed, args.row_seeds, show)}   rng {result.rng}",
    ]
    drawn = [row for row in range(rows) if row not in failed]
    for row in drawn[:show]:
        lines += ["", *_row_report(result, row, None if expected is None else expected[row], show, unicode=unicode)]
    if len(drawn) > show:
        lines += ["", f"... and {render.count(len(drawn) - show)} more rows"]
    return "\n".join(lines) + "\n"


def _drawn(result: SampleResult, failed: set[int], show: int) -> list[str]:
    """List the ids in the order of the draws, a line for each row."""
    rows, width = result.samples.shape
    lines = []
    for row in range(min(rows, show)):
        name = "drawn" if rows == 1 else f"row {row} drawn"
        more = f" ... and {render.count(width - show)} more" if width > show else ""
        ids = " ".join(map(str, result.samples[row, :show].tolist()))
        lines.append(f"{name}: {'nothing, it failed' if row in failed else ids + more}")
    if rows > show:
        lines.append(f"... and {render.count(rows - show)} more rows")
    return lines


def _seeds(seed: int, row_seeds: Sequence[int] | None, show: int) -> str:
    if row_seeds is None:
        return f"seed {seed}"
    more = ", ..." if len(row_seeds) > show else ""
    return f"seeds of the rows {', '.join(map(str, row_seeds[:show]))}{more}"


def _row_report(
    result: SampleResult, row: int, law: NDArray[np.float64] | None, show: int, *, unicode: bool
) -> list[str]:
    samples = result.samples[row]
    ids, counts = np.unique(samples, return_counts=True)
    seen = dict(zip(ids.tolist(), counts.tolist(), strict=True))
    if law is None:
        shown = [int(entry) for entry in ids[np.argsort(-counts, kind="stable")][:show]]
        categories = len(ids)
    else:
        shown = [int(entry) for entry in np.argsort(-law, kind="stable")[:show] if law[entry] > 0 or entry in seen]
        categories = int(np.count_nonzero(law))
    if categories <= show:
        shown.sort()
    scale = max([seen.get(entry, 0) / len(samples) for entry in shown] + ([] if law is None else [float(law.max())]))
    cells = []
    for entry in shown:
        observed = seen.get(entry, 0) / len(samples)
        wanted = None if law is None else float(law[entry])
        drawn = render.bar(observed, wanted, scale, min(_BAR_WIDTH, _columns() - 50), unicode=unicode)
        cells.append(
            [
                *(str(entry), render.count(seen.get(entry, 0)), render.probability(observed)),
                *("-" if wanted is None else render.probability(wanted), drawn),
            ]
        )
    mark = "│" if unicode else "|"
    title = "" if law is None else f"observed, {mark} expected"
    lines = [f"row {row}", render.table(["id", "count", "observed", "expected", title], cells, ">>>><")]
    if categories > len(shown):
        lines.append(f"... and {render.count(categories - len(shown))} more ids")
    return lines + _row_summary(result, row, law)


def _row_summary(result: SampleResult, row: int, law: NDArray[np.float64] | None) -> list[str]:
    lines = []
    samples = result.samples[row]
    if law is not None and len(samples) >= 20:
        fit = chi_square_fit(np.bincount(samples, minlength=len(law)), law / law.sum())
        if fit.degrees:
            lines.append(
                f"chi-square {fit.statistic:.2f}, {fit.degrees} degrees of freedom, p = {render.p_value(fit.p_value)}"
            )
    for kind, nats in result.entropies.items():
        lines.append(f"entropy ({kind}): {nats[row]:.4f} nats")
    for kind, logprobs in result.logprobs.items():
        lines.append(f"mean log-probability ({kind}): {float(np.mean(logprobs[row])):.4f}")
    for kind, ids in result.top_ids.items():
        values = result.top_logprobs[kind][row]
        pairs = (f"{entry} ({value:.3f})" for entry, value in zip(ids[row], values, strict=True) if entry >= 0)
        lines.append(f"most likely ({kind}): {', '.join(pairs)}")
    if result.ranks is not None:
        lines.append(f"mean rank: {float(np.mean(result.ranks[row])):.2f}")
    if result.kept_count is not None and result.kept_mass is not None:
        lines.append(f"kept: {render.count(float(result.kept_count[row]))} ids with mass {result.kept_mass[row]:.4f}")
    if result.adaptive_weighted_sum is not None and result.adaptive_total_weight is not None:
        weighted_sum, total_weight = result.adaptive_weighted_sum[row, 0], result.adaptive_total_weight[row, 0]
        lines.append(f"adaptive-p after the first sample: weighted sum {weighted_sum:.6g}, weight {total_weight:.6g}")
    return lines


def _columns() -> int:
    return max(70, shutil.get_terminal_size((100, 24)).columns)


def _write(data: bytes, path: str | None) -> None:
    if path is not None and path != "-":
        Path(path).write_bytes(data)
        return
    left = memoryview(data)
    while left:  # with PYTHONUNBUFFERED a pipe takes no more at once than it has room for
        left = left[sys.stdout.buffer.write(left) :]
    sys.stdout.buffer.flush()
