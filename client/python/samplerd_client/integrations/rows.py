"""Draws one token from each row of a step of decoding, with the rows in shared memory where the server can read them.

Letters: B rows, V numbers in a row. Rule 1: a row's token depends on the row, its parameters, its seed and the step
alone, so it does not matter how rows are spread over requests. Rule 2: rows are copied once, into the region; those on
a CUDA device that the server draws on are not copied here at all.
"""

from __future__ import annotations

import itertools
from concurrent.futures import wait
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from samplerd_client.device_rows import is_on_device
from samplerd_client.errors import RowsFailedError
from samplerd_client.philox import philox4x32
from samplerd_client.sampling_params import SamplingParams
from samplerd_client.shared_memory import SharedMemoryRegion
from samplerd_client.sync import SyncSamplerClient

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future
    from types import TracebackType

    from numpy.typing import NDArray

    from samplerd_client.info import Limits
    from samplerd_client.result import SampleResult
    from samplerd_client.shared_memory import Slot

__all__ = ["RowSampler", "renumbered", "row_seeds"]

_NUMBER_BYTES = 4
"""Rows are float32: an engine's logits are, and bfloat16 and float16 become float32 without loss."""
_ENVELOPE_BYTES = 1 << 16
"""Of a message's limit, kept free for everything but the rows; what does not fit is refused by the server."""
_DEVICE_DTYPES = frozenset({"torch.float32", "torch.float16", "torch.bfloat16"})
"""No larger than float32, which pieces are measured by, and with the same draws."""
_SEEDS_OF_ROWS = 0x726F7773
"""The last word of the counter: no purpose of the contract's noise, so that no draw shares numbers with a seed."""


def row_seeds(seed: int | Sequence[int], rows: int) -> list[int]:
    """Return a seed for each row: `rows` numbers in [0, 2^64).

    Args:
        seed: in [0, 2^64), from which the seeds of the rows are made; or a seed for each row.
        rows: how many.

    Raises:
        ValueError: the seed is out of its range, or there are not as many as rows.

    """
    if not isinstance(seed, int):
        if len(seed) != rows:
            raise ValueError(f"seed: {rows} rows are generated, got {len(seed)} seeds")
        return [int(own) for own in seed]
    if not 0 <= seed < 1 << 64:
        raise ValueError(f"seed: must be in [0, 2^64), got {seed}")
    counters = np.zeros((rows, 4), np.uint32)
    counters[:, 0] = np.arange(rows)
    counters[:, 3] = _SEEDS_OF_ROWS
    words = philox4x32(counters, (seed & 0xFFFFFFFF, seed >> 32))
    return [int(low) | int(high) << 32 for low, high in words[:, :2]]


def renumbered(error: RowsFailedError, numbers: Sequence[int]) -> RowsFailedError:
    """Return the error with other numbers for its rows.

    Args:
        error: names rows of a request.
        numbers: what to call each row of the request.

    """
    moved = tuple(replace(own, row=numbers[own.row]) for own in error.row_errors)
    text = f"row {moved[0].row}: {moved[0].message}" if moved else error.message
    return RowsFailedError(text, reason=error.reason, row_errors=moved)


class RowSampler:
    """Has samplerd draw one token from each row of a step. For one thread at a time; use it in ``with``, or close it.

    Args:
        server: its address, as for `SyncSamplerClient`; or a client that is open, which stays open.
        shared_memory_prefix: what the server was started with as ``--shared-memory-prefix``. None sends the rows in the
            requests, for a server on another host.
        cuda_shared_memory: the server is on this host, draws on the device that the rows are on, and was started with
            ``--cuda-shared-memory``: it reads rows on a CUDA device where they lie. False copies them to the host.

    """

    def __init__(
        self,
        server: str | SyncSamplerClient,
        *,
        shared_memory_prefix: str | None = None,
        cuda_shared_memory: bool = False,
    ) -> None:
        self._is_own = isinstance(server, str)
        self._client = SyncSamplerClient(server) if isinstance(server, str) else server
        self._prefix = shared_memory_prefix
        self._reads_device = cuda_shared_memory
        self._limits: Limits | None = None
        self._region: SharedMemoryRegion | None = None
        self._slots = 0

    def __enter__(self) -> Self:
        self._connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Unlink the region, and close the client if it was made here."""
        self._close_region()
        if self._is_own:
            self._client.close()
        self._limits = None

    def draw(
        self,
        rows: Any,
        params: SamplingParams | Sequence[SamplingParams],
        *,
        seeds: Sequence[int],
        step: int,
    ) -> NDArray[np.int32]:
        """Draw one token from each row; returns int32[B].

        Args:
            rows: logits [B, V]: a tensor of torch on any device, or what `numpy.asarray` takes. They become float32;
                float16 and bfloat16 on a CUDA device stay as they are where the server reads them there.
            params: of all rows, or of each row, B of them.
            seeds: of each row, B numbers in [0, 2^64).
            step: index of the draw, from 0; the same seed and step draw alike again.

        Raises:
            ValueError: the shape is not [B, V], params or seeds are not B, or one row is more than a request may hold.
            RowsFailedError: a row cannot be drawn from; its number is that in `rows`.
            CudaMemoryError: the memory of rows on a CUDA device cannot be shared.
            SamplerdError: the call failed.

        """
        count, vocab_size = _shape(rows)
        each = None if isinstance(params, SamplingParams) else params
        if len(seeds) != count or (each is not None and len(each) != count):
            given = f"{len(seeds)} seeds" + ("" if each is None else f" and {len(each)} params")
            raise ValueError(f"{count} rows need as many seeds and params, got {given}")
        pieces = self._pieces(count, vocab_size)
        futures: list[Future[SampleResult]] = []
        slots: list[Slot] = []
        try:
            for piece in pieces:
                options: dict[str, Any] = {"row_seeds": list(seeds[piece]), "draw_offset": step}
                if each is None:
                    options["params"] = params
                else:
                    options["row_params"] = list(each[piece])
                if self._reads_device and is_on_device(rows):
                    futures.append(self._client.submit(_as_they_lie(rows[piece]), **options))
                    continue
                if self._prefix is None:
                    futures.append(self._client.submit(_as_float32(rows[piece]), **options))
                    continue
                slots.append(self._reserve(len(pieces), piece.stop - piece.start, vocab_size))
                _copy(rows[piece], slots[-1].array)
                futures.append(self._client.submit(shared_memory=slots[-1], **options))
            wait(futures)
        finally:
            self._free(futures, slots)
        return np.concatenate([_samples(future, piece) for piece, future in zip(pieces, futures, strict=True)])

    def _connect(self) -> Limits:
        """Open the client if it is this sampler's own, and return the server's limits."""
        if self._limits is None:
            if self._is_own:
                self._client.connect()
            self._limits = self._client.server_info().limits
        return self._limits

    def _pieces(self, rows: int, vocab_size: int) -> list[slice]:
        """Split the rows into as few requests as the server's limits allow, of about equal size."""
        limits = self._connect()
        row_bytes = vocab_size * _NUMBER_BYTES
        most = min(limits.max_rows_per_request, (limits.max_message_bytes - _ENVELOPE_BYTES) // row_bytes)
        if most < 1:
            raise ValueError(
                f"rows: a row of {vocab_size} numbers is {row_bytes} bytes, more than a request of this server may"
                f" hold ({limits.max_message_bytes} bytes, --max-message-bytes)"
            )
        count = -(-rows // most)
        ends = [rows * index // count for index in range(count + 1)]
        return [slice(*pair) for pair in itertools.pairwise(ends)]

    def _reserve(self, slots: int, rows: int, vocab_size: int) -> Slot:
        """Return a slot for a piece, in a new region if there is none that is large enough."""
        size = rows * vocab_size * _NUMBER_BYTES
        if self._region is not None and (self._slots < slots or self._region.slot_bytes < size):
            # Pieces of one step differ by one row at most, and the first may be the smaller one.
            self._close_region()
        if self._region is None:
            assert self._prefix is not None
            room = size if slots == 1 else size + vocab_size * _NUMBER_BYTES
            self._region = SharedMemoryRegion(self._prefix, slots=slots, slot_bytes=room).open()
            self._slots = slots
        return self._region.reserve(rows, vocab_size)

    def _free(self, futures: Sequence[Future[SampleResult]], slots: Sequence[Slot]) -> None:
        """Free the slots of calls that have ended; after an interruption, give up the region that calls still read."""
        if all(future.done() for future in futures):
            for slot in slots:
                slot.release()
            return
        for future in futures:
            future.cancel()
        self._close_region()

    def _close_region(self) -> None:
        if self._region is not None:
            self._region.close()
        self._region = None


def _shape(rows: Any) -> tuple[int, int]:
    shape = tuple(getattr(rows, "shape", ()))
    if len(shape) != 2 or 0 in shape:
        raise ValueError(f"rows: expected logits [B, V] of at least one number, got shape {shape}")
    return int(shape[0]), int(shape[1])


def _is_torch(rows: Any) -> bool:
    return any(own.__module__.partition(".")[0] == "torch" for own in type(rows).__mro__)


def _as_they_lie(rows: Any) -> Any:
    """Return rows on a CUDA device as the server can read them there; what it cannot is copied, on the device."""
    rows = rows.detach().resolve_neg()
    if str(rows.dtype) not in _DEVICE_DTYPES:
        rows = rows.float()
    return rows.contiguous()


def _copy(rows: Any, target: NDArray[Any]) -> None:
    """Copy rows of any dtype, from any device, into float32."""
    if _is_torch(rows):
        import torch  # noqa: PLC0415  # only those who have it get here

        torch.from_numpy(target).copy_(rows.detach())
    else:
        np.copyto(target, np.asarray(rows), casting="same_kind")


def _as_float32(rows: Any) -> NDArray[np.float32]:
    array = np.empty(tuple(rows.shape), np.float32)
    _copy(rows, array)
    return array


def _samples(future: Future[SampleResult], piece: slice) -> NDArray[np.int32]:
    """Return what a request drew; RowsFailedError names rows of the step, of which the request has this piece."""
    try:
        return future.result().raise_for_rows().samples[:, 0]
    except RowsFailedError as error:
        raise renumbered(error, range(piece.start, piece.stop)) from error
