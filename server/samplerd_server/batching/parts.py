"""Parts of a request: some of its rows, or some draws of one row, which draw what the whole request draws there.

Every draw with replacement has its own index in the row's noise, so a part of the draws needs nothing of those before
it. Pure.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from samplerd_server.core.outputs import NO_OUTPUTS, OutputFlags
from samplerd_server.sampling.price import prices_of

if TYPE_CHECKING:
    from samplerd_server.core.outputs import Outputs
    from samplerd_server.core.request import SampleRequest

__all__ = ["PER_SAMPLE", "draws_part", "rows_part"]

PER_SAMPLE = OutputFlags.RAW | OutputFlags.SCALED | OutputFlags.PROCESSED | OutputFlags.RANK | OutputFlags.ADAPTIVE
"""Outputs with as many numbers for each sample: a part of the draws has its part of them."""


def rows_part(request: SampleRequest, begin: int, end: int) -> SampleRequest:
    """Take rows [begin, end) of a request, with all their draws."""
    if (begin, end) == (0, request.rows):
        return request
    params = request.params
    own = params if len(params) == 1 else params[begin:end]
    greedy = own[0].is_greedy * (end - begin) if len(own) == 1 else sum(each.is_greedy for each in own)
    return replace(
        request,
        source=request.source.part(begin, end),
        guidance=None if request.guidance is None else request.guidance.part(begin, end),
        params=own,
        row_seeds=None if request.row_seeds is None else request.row_seeds[begin:end],
        first_row=request.first_row + begin,
        greedy_rows=greedy,
        work=request.work * (end - begin) // request.rows,
    )


def draws_part(request: SampleRequest, row: int, first: int, draws: int) -> SampleRequest:
    """Take some draws with replacement of one row; the outputs of the row itself come with its first draw.

    Args:
        request: the whole.
        row: which of its rows.
        first: how many draws of the row were made before.
        draws: how many to make now.

    """
    part = rows_part(request, row, row + 1)
    return replace(
        part,
        num_samples=draws,
        draw_offset=request.draw_offset + first,
        drawn=request.drawn + first,
        outputs=_per_sample(request.outputs) if first else request.outputs,
        work=int(prices_of(part)[0].total(draws)),
    )


def _per_sample(outputs: Outputs) -> Outputs:
    flags = outputs.output_flags & PER_SAMPLE
    if not flags:
        return NO_OUTPUTS
    return replace(outputs, top_n=0, logprob_ids=None, entropy=(), kept=False, output_flags=flags)
