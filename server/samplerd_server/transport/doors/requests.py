"""Requests as messages: `RequestWriter` in a door, `RequestReader` in the engine.

The numbers of dense rows are copied into the arena, and the message says where they lie. Uploaded rows are named by the
file that both processes map. Everything else is in the message; parameters and outputs that many requests share are
sent once, and then named by a number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from samplerd_server.core.enums import Dtype, InputKind
from samplerd_server.core.errors import NotFoundError
from samplerd_server.core.held_bytes import lists_bytes
from samplerd_server.core.outputs import NO_OUTPUTS
from samplerd_server.core.request import SampleRequest, VerifyRequest
from samplerd_server.core.rows import CandidateRows, DenseRows, StoredRows
from samplerd_server.transport.codec.by_distribution import with_cdf_index
from samplerd_server.transport.doors.arena import Lease
from samplerd_server.transport.doors.known import KnownHere, KnownThere

if TYPE_CHECKING:
    from samplerd_server.core.params import SamplingParams
    from samplerd_server.transport.doors.arena import Arena
    from samplerd_server.transport.doors.window import Window

__all__ = ["FindsFiles", "RequestReader", "RequestWriter"]

_DTYPES = {int(own): own for own in Dtype}
_KINDS = {int(own): own for own in InputKind}
_SAMPLE, _VERIFY = 0, 1
_DENSE, _STORED, _CANDIDATES = 0, 1, 2


class FindsFiles(Protocol):
    """The part of the store that finds uploaded rows by their file: distributions.by_file.FileStore."""

    def find_file(self, name: str, file: int) -> StoredRows:
        """Give the rows of the distribution in this file, which once had this name.

        Raises:
            NotFoundError: there is no such file.

        """
        ...


class RequestWriter:
    """Writes requests, and remembers which blocks of the arena the engine reads."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._known = KnownHere()
        self._held: dict[int, memoryview | None] = {}
        """Blocks that the engine may read, by offset; with the lease of those that this process has made."""
        self._written: list[int] = []
        """Those of the request that is being written."""

    def write(self, request: SampleRequest | VerifyRequest) -> tuple[Any, ...]:
        """Give the message of a request; its dense rows are in the arena.

        Raises:
            OverloadedError: the arena is full.

        """
        self._written = []
        try:
            return self._write(request)
        except BaseException:
            self.freed(self._written)
            raise

    def _write(self, request: SampleRequest | VerifyRequest) -> tuple[Any, ...]:
        if isinstance(request, VerifyRequest):
            draft = None if request.draft is None else self._dense(request.draft)
            target = self._sample(request.target)
            return (_VERIFY, request.id, target, request.draft_ids, request.parents, draft, request.priority)
        return self._sample(request)

    def _sample(self, own: SampleRequest) -> tuple[Any, ...]:
        source = own.source
        return (
            _SAMPLE,
            own.id,
            self._dense(source) if isinstance(source, DenseRows) else self._other(source),
            self._known.name_params(own.params) if _is_shared(own.params) else own.params,
            None if own.guidance is None else self._dense(own.guidance),
            own.num_samples,
            own.with_replacement,
            int(own.kind),
            own.seed,
            own.row_seeds,
            own.draw_offset,
            None if own.outputs is NO_OUTPUTS else own.outputs,
            own.priority,
            own.greedy_rows,
            own.work,
            own.load is not None,
            own.first_row,
            own.drawn,
            own.is_divisible,
        )

    def _dense(self, rows: DenseRows) -> tuple[int, int, int, int, int, int]:
        data = rows.data
        lease = getattr(data, "obj", None)
        if isinstance(lease, Lease) and lease.arena is self._arena:
            offset, held = lease.offset, memoryview(data)
        else:
            offset, held = self._arena.put(data), None
        self._held[offset] = held
        self._written.append(offset)
        return _DENSE, int(rows.dtype), rows.rows, rows.vocab_size, offset, len(data)

    def _other(self, rows: CandidateRows | StoredRows) -> tuple[Any, ...]:
        if isinstance(rows, CandidateRows):
            return _CANDIDATES, rows
        count = rows.rows
        return _STORED, rows.name, rows.file, rows.first, count

    def hold(self, offset: int) -> None:
        """Take note that the engine may read another block of the arena."""
        self._held[offset] = None

    def take_definitions(self) -> list[tuple[Any, ...]]:
        """Give what the engine must learn before it reads the requests that were written."""
        return self._known.take_definitions()

    def freed(self, offsets: list[int]) -> None:
        """Take note that the engine does not read these blocks any more."""
        for offset in offsets:
            if self._held.pop(offset) is None:
                self._arena.give(offset)

    def forget(self) -> None:
        """Begin anew: the engine has ended, and another one knows nothing."""
        self.freed(list(self._held))
        self._known = KnownHere()


def _is_shared(params: tuple[SamplingParams, ...]) -> bool:
    """Whether parameters may be those of many requests, as the decoder shares them: one for all rows, without lists."""
    return len(params) == 1 and (params[0].is_plain or not (lists_bytes(params) or params[0].token_bitmask))


class RequestReader:
    """Reads the requests of one door."""

    def __init__(self, window: Window, store: FindsFiles | None) -> None:
        """Take the door's memory, and what finds uploaded rows; None = there are none."""
        self._window = window
        self._store = store
        self.known = KnownThere()

    def read(self, message: tuple[Any, ...]) -> SampleRequest | VerifyRequest:
        """Make a request again.

        Raises:
            NotFoundError: the distribution that it draws from is gone.

        """
        if message[0] == _SAMPLE:
            return self._sample(message)
        _, own_id, target, draft_ids, parents, draft, priority = message
        return VerifyRequest(
            id=own_id,
            target=self._sample(target),
            draft_ids=draft_ids,
            parents=parents,
            draft=None if draft is None else self._dense(draft),
            priority=priority,
        )

    def _sample(self, message: tuple[Any, ...]) -> SampleRequest:
        # fmt: off
        (
            _, own_id, source, params, guidance, num_samples, with_replacement, kind, seed, row_seeds, draw_offset,
            outputs, priority, greedy_rows, work, was_loaded, first_row, drawn, is_divisible,
        ) = message
        # fmt: on
        rows: Any
        if source[0] == _DENSE:
            rows = self._dense(source)
        else:
            rows = source[1] if source[0] == _CANDIDATES else self._stored(source)
        request = SampleRequest(
            id=own_id,
            source=rows,
            params=self.known.params(params) if type(params) is int else params,
            guidance=None if guidance is None else self._dense(guidance),
            num_samples=num_samples,
            with_replacement=with_replacement,
            kind=_KINDS[kind],
            seed=seed,
            row_seeds=row_seeds,
            draw_offset=draw_offset,
            outputs=NO_OUTPUTS if outputs is None else outputs,
            priority=priority,
            greedy_rows=greedy_rows,
            work=work,
            load=_is_loaded if was_loaded else None,
            first_row=first_row,
            drawn=drawn,
            is_divisible=is_divisible,
        )
        return with_cdf_index(request, rows) if source[0] == _STORED else request

    def _dense(self, parts: tuple[int, int, int, int, int, int]) -> DenseRows:
        _, dtype, rows, vocab_size, offset, size = parts
        data, address = self._window.lend(offset, size)
        return DenseRows(dtype=_DTYPES[dtype], rows=rows, vocab_size=vocab_size, data=data, address=address)

    def _stored(self, parts: tuple[int, str, int, int, int]) -> StoredRows:
        _, name, file, first, count = parts
        if self._store is None:
            raise NotFoundError(f"there is no distribution named {name}")
        rows = self._store.find_file(name, file)
        return rows if (first, count) == (0, rows.rows) else rows.part(first, first + count)


def _is_loaded() -> None:
    """Bring nothing in: the door has copied the rows out of the region of its client."""
