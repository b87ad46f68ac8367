"""The sampler of the CPU: fused loops compiled by numba, at the addresses that the records name.

Rule 1: one kernel call for a share of rows, and nothing in Python for a row. Rule 2: a row is drawn by one thread from
start to end, in one fixed order, so that results do not depend on the number of threads. Rule 3: small batches stay on
the calling thread, since handing work to another costs tens of microseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from samplerd_server.core.enums import LogprobKind, RowErrorReason
from samplerd_server.core.named_thread import named_pool
from samplerd_server.sampling.capabilities import capabilities
from samplerd_server.sampling.kernels.answer import Outputs, draw_full
from samplerd_server.sampling.kernels.held import HELD, WHOLE
from samplerd_server.sampling.kernels.kernel import draw_few, draw_plain
from samplerd_server.sampling.kernels.long_draw import LongDraw
from samplerd_server.sampling.kernels.partition import share_out
from samplerd_server.sampling.kernels.verify import UNFINISHED, verify_rows
from samplerd_server.sampling.kernels.workspace import Workspace
from samplerd_server.sampling.resumed import ResumedDraft, ResumedDraw
from samplerd_server.sampling.rows import DraftSequence, DraftVerdict, RowBatch, RowResults, new_results

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from numpy.typing import NDArray

    from samplerd_server.core.rows import DenseRows

__all__ = ["NumbaSampler"]

_CAPABILITIES = capabilities()

_WORTH_A_THREAD = 150_000
"""Price of a batch in nanoseconds from which on a second thread is asked."""

_SHORT = 50_000
"""Price of a batch in nanoseconds below which the interpreter lock is kept: about what handing it over costs."""


class NumbaSampler:
    """Implements `sampling.sampler.Sampler` with compiled loops over rows in place."""

    __slots__ = ("_bounds", "_pool", "_threads", "_workspaces")

    def __init__(self, threads: int = 1) -> None:
        self._threads = max(1, threads)
        self._workspaces = [Workspace() for _ in range(self._threads)]
        self._bounds = np.zeros(self._threads + 1, np.int64)
        self._pool: ThreadPoolExecutor | None = None

    @property
    def name(self) -> str:
        """As GetServerInfo and the log show it."""
        return "numba"

    @property
    def capabilities(self) -> frozenset[str]:
        """Fields of the contract that work."""
        return _CAPABILITIES

    @property
    def most_draws(self) -> int:
        """0: prices are measured with this sampler."""
        return 0

    def warm_up(self) -> None:
        """Load or compile the kernels, and start the threads."""
        if self._threads > 1 and self._pool is None:
            self._pool = named_pool("samplerd-draw", self._threads - 1)
        from samplerd_server.sampling.kernels.warm_up import batches  # noqa: PLC0415  # it calls back into samplers

        for batch in batches():
            self.sample(batch)
            share_out(batch.rows, self._bounds)
            self.verify(batch, np.empty(0, np.int32), np.empty(0, np.int32), None)
        draw = ResumedDraw(batch)
        while self.resume(draw) is None:
            draw.draws = 1

    def sample(self, batch: RowBatch) -> RowResults:
        """Draw from every row; see the protocol."""
        rows = batch.rows
        if not rows.flags.carray:  # numba would compile for read-only or unaligned records; nobody waits for that
            rows = rows.copy()
        count = len(rows)
        if batch.output_flags:
            results = new_results(batch)
        else:
            results = RowResults(
                samples=np.empty(batch.samples, _INT32),
                status=np.empty(count, _INT32),
                detail=np.empty(count, _INT64),
                logprobs=_NONE,
                top_ids=_NO_TOP,
                top_logprobs=_NONE,
                named=_NONE,
                entropy=_NONE,
            )
        if self._pool is None or count == 1 or share_out(rows, self._bounds) < _WORTH_A_THREAD:
            # As `_draw` does, without the call: this is the path of a lone row.
            space = self._workspaces[0]
            draw = draw_few if 0 < batch.work < _SHORT else draw_plain
            left = draw(rows, 0, count, results.samples, results.status, results.detail, space.space)
            if left:
                self._draw_rest(left, rows, 0, count, results, space)
        else:
            self._draw_shared(self._pool, rows, results)
        return results

    def verify(
        self, target: RowBatch, draft_ids: NDArray[np.int32], parents: NDArray[np.int32], draft: DenseRows | None
    ) -> DraftVerdict:
        """Verify the draft of one sequence; see the protocol."""
        own = ResumedDraft(DraftSequence(target=target, draft_ids=draft_ids, parents=parents, draft=draft))
        own.tokens = len(draft_ids)
        verdict = self.resume_draft(own)
        assert verdict is not None, "a draft was not verified to its end. This is a bug."
        return verdict

    def resume_draft(self, own: ResumedDraft) -> DraftVerdict | None:
        """Try some of the tokens of one draft; see the protocol."""
        target, draft_ids, draft = own.sequence.target, own.sequence.draft_ids, own.sequence.draft
        space = self._workspaces[0]
        widest = int(target.rows["width"].max())
        if widest > space.width:
            space.grow(widest)
        rows = target.rows if target.rows.flags.carray else target.rows.copy()
        if own.state is None:
            is_whole = own.tokens >= len(draft_ids)
            own.state = _DraftState(
                path=np.empty(len(draft_ids), np.int32),
                progress=np.zeros(3, np.int64),
                residual=np.zeros(1 if is_whole else 1 + widest, np.float64),
            )
        state = own.state
        assert isinstance(state, _DraftState), "another sampler began this draft. This is a bug."
        held = None if draft is None else np.frombuffer(draft.data, np.uint8)
        accepted, failed, status, detail, last, failed_draft = verify_rows(
            rows,
            np.ascontiguousarray(draft_ids, np.int32),
            np.ascontiguousarray(own.sequence.parents, np.int32),
            0 if held is None else held.__array_interface__["data"][0],
            0 if draft is None else int(draft.dtype),
            0 if draft is None else draft.vocab_size * draft.dtype.itemsize,
            state.path,
            state.progress,
            state.residual,
            own.tokens,
            space.full(),
            space.space,
        )
        if failed == UNFINISHED:
            return None
        path = state.path[:accepted]
        return DraftVerdict(
            samples=(*draft_ids[path].tolist(), *(() if failed >= 0 else (last,))),
            path=tuple(path.tolist()),
            failed_row=failed,
            failed_draft=failed_draft,
            reason=RowErrorReason(status),
            detail=detail,
        )

    def resume(self, draw: ResumedDraw) -> RowResults | None:
        """Go on with the draws of one row without replacement; see the protocol. The first slice reads the row."""
        space, state = self._workspaces[0], draw.state
        if state is None:
            draw.state = state = LongDraw(draw.batch)
            is_more = state.begin(space, _outputs(state.results))
        else:
            assert isinstance(state, LongDraw), "another sampler began this draw. This is a bug."
            is_more = state.advance(space, draw.draws)
        if is_more:
            return None
        state.finish(space, _outputs(state.results))
        return state.results

    def close(self) -> None:
        """Stop the threads."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    def _draw_shared(self, pool: ThreadPoolExecutor, rows: NDArray[np.void], results: RowResults) -> None:
        """Draw the last share here and the others on the pool's threads."""
        bounds = self._bounds.tolist()
        others: list[Future[None]] = [
            pool.submit(self._draw, rows, bounds[i], bounds[i + 1], results, self._workspaces[i])
            for i in range(self._threads - 1)
        ]
        self._draw(rows, bounds[-2], bounds[-1], results, self._workspaces[-1])
        for other in others:
            other.result()

    def _draw(self, rows: NDArray[np.void], begin: int, end: int, results: RowResults, space: Workspace) -> None:
        """Draw rows [begin, end) on this thread."""
        left = draw_plain(rows, begin, end, results.samples, results.status, results.detail, space.space)
        if left:
            self._draw_rest(left, rows, begin, end, results, space)

    def _draw_rest(  # noqa: PLR0917  # the arguments of `_draw`, and what it found
        self, left: int, rows: NDArray[np.void], begin: int, end: int, results: RowResults, space: Workspace
    ) -> None:
        """Draw what `draw_plain` left: all, for want of room, or the rows that are not plain."""
        if left > 0:
            space.grow(left)
            self._draw(rows, begin, end, results, space)
        else:
            samples, status, detail = results.samples, results.status, results.detail
            out, work = _outputs(results), space.full()
            draw_full(rows, begin, end, samples, status, detail, out, work, space.space, WHOLE, _NOT_HELD)


@dataclass(frozen=True, slots=True, kw_only=True)
class _DraftState:
    """What `verify_rows` goes on with."""

    path: NDArray[np.int32]
    progress: NDArray[np.int64]
    residual: NDArray[np.float64]


_NONE: dict[LogprobKind, NDArray[np.float32]] = {}
_NO_TOP: dict[LogprobKind, NDArray[np.int32]] = {}
"""What most rows answer beside samples: shared, so that a small batch does not pay for making five of them."""
_INT32, _INT64 = np.dtype(np.int32), np.dtype(np.int64)
"""Made once: numpy looks a type up each time it is given a class."""
_NOT_HELD = np.zeros(1, HELD)
"""Given to the kernels where no long draw is made."""
_NO_FLOATS, _NO_DOUBLES, _NO_IDS = np.empty(0, np.float32), np.empty(0, np.float64), np.empty(0, np.int32)
_KINDS = (LogprobKind.RAW, LogprobKind.SCALED, LogprobKind.PROCESSED)


def _outputs(results: RowResults) -> Outputs:
    """Lay results out as the kernel takes them: always the same arrays, empty where nobody wants them."""
    return Outputs(
        logprobs=tuple(results.logprobs.get(kind, _NO_FLOATS) for kind in _KINDS),
        top_ids=tuple(results.top_ids.get(kind, _NO_IDS) for kind in _KINDS),
        top_logprobs=tuple(results.top_logprobs.get(kind, _NO_FLOATS) for kind in _KINDS),
        named=tuple(results.named.get(kind, _NO_FLOATS) for kind in _KINDS),
        entropy=tuple(results.entropy.get(kind, _NO_FLOATS) for kind in _KINDS),
        ranks=_NO_IDS if results.ranks is None else results.ranks,
        kept_count=_NO_IDS if results.kept_count is None else results.kept_count,
        kept_mass=_NO_FLOATS if results.kept_mass is None else results.kept_mass,
        unshaped=_NO_DOUBLES if results.unshaped is None else results.unshaped,
    )
