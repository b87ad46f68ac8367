"""A long request that is computed slice by slice: what the next slice is, and the answers of those that are done.

Rule 1: the joined answer is that of the whole request, to the bit, wherever it is cut: between rows; between the draws
with replacement of a row, which do not depend on each other; and between those without replacement where the sampler
can go on where it stopped (`sampling/resumed.py`). Rule 2: a row that fails in one slice fails as a whole, and is not
drawn from again. Rule 3: pure; no clock, no loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from samplerd_server.batching.parts import draws_part, rows_part
from samplerd_server.batching.ticket_batch import pack_drafts, pack_one
from samplerd_server.core.request import VerifyRequest
from samplerd_server.sampling.price import prices_of
from samplerd_server.sampling.resumed import ResumedDraft, ResumedDraw
from samplerd_server.sampling.rows import DraftVerdict, RowBatch, RowResults, allocate_results, clear_row

if TYPE_CHECKING:
    from samplerd_server.core.request import SampleRequest
    from samplerd_server.engine.device_thread import DeviceBatch
    from samplerd_server.sampling.price import RowPrice

__all__ = ["SlicedDraft", "SlicedRequest", "SlicedSample", "has_many_draws", "slice_request"]


class SlicedRequest(Protocol):
    """A request between two of its slices."""

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to compute."""
        ...

    @property
    def work_left(self) -> float:
        """Price of what is left, in nanoseconds (`sampling/price.py`)."""
        ...

    @property
    def cut_work(self) -> float:
        """Price of the slice that was cut last, and of what it did once it has run."""
        ...

    @property
    def begins_rows(self) -> bool:
        """Whether the slice that was cut last begins rows, rather than going on with the draws of one."""
        ...

    @property
    def part(self) -> SampleRequest | VerifyRequest:
        """The slice that was cut last, as a request."""
        ...

    def cut(self, budget: float) -> DeviceBatch:
        """Pack the next slice: at least one row, or one draw; else no more than `budget` nanoseconds.

        A slice of the draws of a row first reads the row again; the draws themselves then may cost as much, so that a
        request takes at most twice its time however it is cut.
        """
        ...

    def accept(self, results: RowResults | tuple[DraftVerdict, ...] | None) -> None:
        """Take the answer to the slice that `cut` gave last; None = the next one goes on."""
        ...

    @property
    def results(self) -> RowResults | tuple[DraftVerdict, ...]:
        """What the device would have answered to the whole request. Only once it is done."""
        ...


def slice_request(request: SampleRequest | VerifyRequest, most_draws: int = 0) -> SlicedRequest:
    """Begin a long request; most_draws: as of `Sampler`."""
    return SlicedDraft(request) if isinstance(request, VerifyRequest) else SlicedSample(request, most_draws)


def has_many_draws(request: SampleRequest | VerifyRequest, most_draws: int) -> bool:
    """Tell whether a request has more draws without replacement than a sampler makes in a slice; 0 = no bound."""
    if isinstance(request, VerifyRequest) or request.with_replacement:
        return False
    return 0 < most_draws < request.num_samples


class SlicedSample:
    """Draws, by rows; the draws of one row, if they alone are too long."""

    def __init__(self, request: SampleRequest, most_draws: int = 0) -> None:
        self._has_many_draws = has_many_draws(request, most_draws)
        self._request = request
        self._prices = prices_of(request)
        self._row = self._drawn = 0
        """The next row, and how many draws of it are made."""
        self.part = request
        self._cut_work = 0.0
        self.begins_rows = True
        self._resumed: ResumedDraw | None = None
        """The row whose draws without replacement are being made."""
        self._results: RowResults | None = None

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to compute."""
        return self._row == self._request.rows

    @property
    def work_left(self) -> float:
        """Price of what is left."""
        request, prices = self._request, self._prices
        if self.is_done:
            return 0.0
        left = request.rows - self._row
        draws = left * request.num_samples - self._drawn
        if len(prices) == 1:
            return left * prices[0].once + draws * prices[0].per_draw
        whole = sum(own.total(request.num_samples) for own in prices[self._row :])
        return whole - self._drawn * prices[self._row].per_draw

    @property
    def cut_work(self) -> float:
        """Price of the slice that was cut last; of its draws, those that were made."""
        if self._resumed is not None and self._resumed.draws:
            return self._resumed.draws * self._price(self._row).per_draw
        return self._cut_work

    def _price(self, row: int) -> RowPrice:
        return self._prices[row if len(self._prices) > 1 else 0]

    def cut(self, budget: float) -> DeviceBatch:
        """Pack the next slice."""
        request, row, draws = self._request, self._row, self._request.num_samples
        self.begins_rows = not self._drawn and self._resumed is None
        if self._resumed is not None:
            return self._resume(self._resumed, budget)
        if self._drawn or self._must_cut(row, budget):
            if not request.with_replacement:
                return self._begin(row)
            count = self._count_draws(budget)
            self._cut_work = self._price(row).total(count)
            self.part = draws_part(request, row, self._drawn, count)
            return pack_one(self.part)
        end, self._cut_work = row + 1, self._price(row).total(draws)
        while end < request.rows and not self._must_cut(end, budget):
            more = self._price(end).total(draws)
            if self._cut_work + more > budget:
                break
            end, self._cut_work = end + 1, self._cut_work + more
        self.part = rows_part(request, row, end)
        return pack_one(self.part)

    def _must_cut(self, row: int, budget: float) -> bool:
        """Tell whether the draws of a row are cut."""
        draws = self._request.num_samples
        return draws > 1 and (self._has_many_draws or self._price(row).total(draws) > budget)

    def _count_draws(self, budget: float) -> int:
        price, left = self._price(self._row), self._request.num_samples - self._drawn
        return max(1, min(left, int(max(budget - price.once, price.once) / price.per_draw)))

    def _begin(self, row: int) -> ResumedDraw:
        """Begin the draws without replacement of one row: this slice reads the row."""
        self.part = rows_part(self._request, row, row + 1)
        self._cut_work = self._price(row).once
        packed = pack_one(self.part)
        assert isinstance(packed, RowBatch), "draws without replacement were packed otherwise. This is a bug."
        self._resumed = ResumedDraw(packed)
        return self._resumed

    def _resume(self, resumed: ResumedDraw, budget: float) -> ResumedDraw:
        resumed.draws = max(1, int(budget / self._price(self._row).per_draw))
        return resumed

    def accept(self, results: RowResults | tuple[DraftVerdict, ...] | None) -> None:
        """Take the answer to the slice that `cut` gave last."""
        if results is None:
            assert self._resumed is not None, "draws with replacement are left. This is a bug."
            self._drawn = min(self._drawn + self._resumed.draws, self._request.num_samples)
            return
        assert isinstance(results, RowResults), "draws were answered with verdicts. This is a bug."
        if self._resumed is not None:
            self._resumed, self._drawn = None, 0
        row, draws = self._row, self._request.num_samples
        if self._results is None:
            self._results = self._allocate()
        whole = self._results
        _copy_samples(whole, results, row * draws + self._drawn)
        if not self._drawn:
            self._copy_rows(whole, results, row)
        if self.part.num_samples == draws:
            self._row += self.part.rows
            return
        self._drawn += self.part.num_samples
        if results.status[0]:
            self._fail(whole, results, row)
        if results.status[0] or self._drawn == draws:
            self._row, self._drawn = row + 1, 0

    def _allocate(self) -> RowResults:
        request, outputs = self._request, self._request.outputs
        named = 0 if outputs.logprob_ids is None else len(outputs.logprob_ids)
        return allocate_results(
            request.rows, request.samples, request.rows * outputs.top_n, request.rows * named, int(outputs.output_flags)
        )

    def _copy_rows(self, whole: RowResults, part: RowResults, row: int) -> None:
        """Copy the outputs that a row has once."""
        outputs, rows = self._request.outputs, self.part.rows
        own = slice(row, row + rows)
        whole.status[own], whole.detail[own] = part.status, part.detail
        for kind, entropies in part.entropy.items():
            whole.entropy[kind][own] = entropies
        if part.kept_count is not None and part.kept_mass is not None:
            assert whole.kept_count is not None, "an output that a request wants was not allocated. This is a bug."
            assert whole.kept_mass is not None, "an output that a request wants was not allocated. This is a bug."
            whole.kept_count[own], whole.kept_mass[own] = part.kept_count, part.kept_mass
        top = slice(row * outputs.top_n, (row + rows) * outputs.top_n)
        for kind, ids in part.top_ids.items():
            whole.top_ids[kind][top], whole.top_logprobs[kind][top] = ids, part.top_logprobs[kind]
        count = 0 if outputs.logprob_ids is None else len(outputs.logprob_ids)
        for kind, values in part.named.items():
            whole.named[kind][row * count : (row + rows) * count] = values

    def _fail(self, whole: RowResults, part: RowResults, row: int) -> None:
        """Answer a row as one that failed, whatever its earlier slices gave."""
        request, outputs = self._request, self._request.outputs
        whole.status[row], whole.detail[row] = part.status[0], part.detail[0]
        named = 0 if outputs.logprob_ids is None else len(outputs.logprob_ids)
        clear_row(whole, row, request.num_samples, outputs.top_n, named)

    @property
    def results(self) -> RowResults:
        """What the device would have answered to the whole request."""
        assert self._results is not None, "a request without a slice has an answer. This is a bug."
        return self._results


def _copy_samples(whole: RowResults, part: RowResults, first: int) -> None:
    """Copy the outputs that every sample has."""
    own = slice(first, first + len(part.samples))
    whole.samples[own] = part.samples
    for kind, values in part.logprobs.items():
        whole.logprobs[kind][own] = values
    if part.ranks is not None:
        assert whole.ranks is not None, "an output that a request wants was not allocated. This is a bug."
        whole.ranks[own] = part.ranks
    if part.unshaped is not None:
        assert whole.unshaped is not None, "an output that a request wants was not allocated. This is a bug."
        whole.unshaped[own] = part.unshaped


class SlicedDraft:
    """The verification of one draft, by the tokens that are tried."""

    def __init__(self, request: VerifyRequest) -> None:
        self.part = request
        self.cut_work = 0.0
        self.begins_rows = True
        self._price = request.work / request.rows
        self._tried = 0
        self._resumed: ResumedDraft | None = None
        self._verdict: DraftVerdict | None = None

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to compute."""
        return self._verdict is not None

    @property
    def work_left(self) -> float:
        """Price of what is left, if every token is tried."""
        return 0.0 if self.is_done else max(0, self.part.rows - self._tried) * self._price

    def cut(self, budget: float) -> DeviceBatch:
        """Give the next slice."""
        self.begins_rows = self._resumed is None
        if self._resumed is None:
            (sequence,) = pack_drafts([self.part]).sequences
            self._resumed = ResumedDraft(sequence)
        self._resumed.tokens = max(1, int(budget / self._price))
        self.cut_work = min(self._resumed.tokens, self.part.rows) * self._price
        return self._resumed

    def accept(self, results: RowResults | tuple[DraftVerdict, ...] | None) -> None:
        """Take the answer to the slice that `cut` gave last; None = tokens are left to try."""
        assert not isinstance(results, RowResults), "a draft was answered with draws. This is a bug."
        assert self._resumed is not None, "a slice was answered that was not cut. This is a bug."
        if results is None:
            self._tried = min(self._tried + self._resumed.tokens, self.part.rows - 1)
        else:
            (self._verdict,) = results

    @property
    def results(self) -> tuple[DraftVerdict, ...]:
        """What the device would have answered to the whole request."""
        assert self._verdict is not None, "a draft that is not decided has an answer. This is a bug."
        return (self._verdict,)
