"""Speculative verification on the client's side: from a call's arguments to a VerifyDraft request, and back.

Rule 1: the unary call, the stream and the synchronous ones take the same arguments and go through `build_draft`. Rule
2: rows are copied exactly once, as in `request`; the draft and the target have the highest field numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from samplerd.v1 import sampler_pb2 as pb
from samplerd_client.arrays import ArrayLike, Rows, as_rows
from samplerd_client.device_rows import is_on_device
from samplerd_client.errors import InternalError, RowError
from samplerd_client.options import SamplingFields
from samplerd_client.params import Ids, SamplingParams, integers
from samplerd_client.request import set_params, set_scalars
from samplerd_client.result import Timing, raise_for_rows, timing_of
from samplerd_client.status import row_error
from samplerd_client.wire import repeated, tensor_parts

if TYPE_CHECKING:
    from collections.abc import MutableSequence, Sequence

    from numpy.typing import NDArray

__all__ = ["PreparedDraft", "VerifyOptions", "VerifyResult", "build_draft", "decode_verdict"]


class VerifyOptions(SamplingFields, total=False):
    """The keywords of `verify_draft`: the fields of SamplingParams, and these."""

    parents: Ids | None
    """Of a tree draft: for each drafted token the index in draft_ids of the token that it follows, below its own; -1 =
    it follows the sequence. None: a chain, in which each token follows the one before."""
    params: SamplingParams | None
    """Parameters of all target rows, in place of a keyword for each."""
    row_params: Sequence[SamplingParams] | None
    """Parameters of each target row: n + 1 of them."""
    seed: int | None
    """Seed of the random numbers, 0 to 2^64 - 1. None: the server draws one, and returns it with the result."""
    draw_offset: int
    """Index of the draw, so that one seed can serve a whole sequence of drafts. Default 0."""
    probabilities: bool
    """The numbers of the target rows are weights, not logits; those of the draft always are. Default False."""
    dtype: str | None
    """Convert target and draft before sending: "f32", "f16", "bf16", "f64". None sends them as they are."""


_OPTIONS = frozenset(VerifyOptions.__annotations__)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyResult:
    """The result of verifying a draft."""

    samples: NDArray[np.int32]
    """int32[k]: the accepted tokens and, unless a row failed, one more: the correction where no token that follows was
    accepted, or a draw from the target's row if none follows."""
    accepted: int
    """How many drafted tokens were accepted: 0 to n, of a tree at most its depth."""
    path: NDArray[np.int32]
    """int32[accepted]: indices in draft_ids of the accepted tokens, each the parent of the next: which entries of a
    key-value cache to keep."""
    seed: int
    """The seed that was used."""
    rng: str
    """Name and version of the random number generator, and of the rule that turns its numbers into ids."""
    row_errors: tuple[RowError, ...] = ()
    """The row that failed, if one did; verification stopped before it."""
    timing: Timing

    def raise_for_rows(self) -> VerifyResult:
        """Return the result itself, or raise RowsFailedError if a row failed."""
        raise_for_rows(self.row_errors)
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedDraft:
    """A request that is complete but for its id."""

    message: pb.VerifyDraftRequest
    """The request without its id and rows."""
    target: Rows
    draft: Rows | None

    def encode(self, request_id: int = 0) -> bytes:
        """Return the bytes of the request."""
        self.message.id = request_id
        parts: list[Any] = [self.message.SerializeToString()]
        if self.draft is not None:
            parts.extend(tensor_parts(self.draft, pb.VerifyDraftRequest.DRAFT_FIELD_NUMBER))
        parts.extend(tensor_parts(self.target, pb.VerifyDraftRequest.TARGET_FIELD_NUMBER))
        return b"".join(parts)


def build_draft(target: ArrayLike, draft_ids: Ids, draft: ArrayLike | None, options: VerifyOptions) -> PreparedDraft:
    """Return the request.

    Args:
        target: [n + 1, V].
        draft_ids: the n drafted tokens.
        draft: [n, V] weights that they were drawn from ([V] for one); None = each was certain.
        options: the keywords of `verify_draft`.

    Raises:
        TypeError: an unknown keyword, something that is no array of numbers, or a tensor that is not on the host.
        ValueError: a number that its field cannot hold, arguments that exclude others.

    """
    given = cast("dict[str, Any]", options)
    if unknown := sorted(given.keys() - _OPTIONS):
        raise TypeError(f"verify_draft() has no argument {unknown[0]!r}")
    message = pb.VerifyDraftRequest()
    set_scalars(message, given, ("seed", "draw_offset"))
    if options.get("probabilities", False):
        message.kind = pb.INPUT_KIND_PROBABILITIES
    set_params(message, given)
    _extend(message.draft_ids, "draft_ids", draft_ids)
    _extend(message.parents, "parents", options.get("parents"))
    dtype = options.get("dtype")
    return PreparedDraft(
        message=message,
        target=_on_host("target", target, dtype),
        draft=None if draft is None else _on_host("draft", draft, dtype),
    )


def _on_host(name: str, rows: ArrayLike, dtype: str | None) -> Rows:
    """Return rows in host memory, the only ones that a draft's request has a place for."""
    if is_on_device(rows):
        raise TypeError(
            f"{name}: a tensor on a CUDA device, and drafts are verified from host memory alone; send {name}.cpu()"
        )
    return as_rows(rows, dtype)


def _extend(field: MutableSequence[int], name: str, values: Ids | None) -> None:
    if values is None:
        return
    try:
        field.extend(integers(values))
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from error


def decode_verdict(response: pb.VerifyDraftResponse) -> VerifyResult:
    """Return the result of a reply.

    Raises:
        InternalError: the numbers of accepted tokens, of their indices and of returned tokens contradict each other.

    """
    drawn = len(response.samples) - response.accepted
    if drawn != (0 if response.row_errors else 1):
        raise InternalError(f"the reply has {len(response.samples)} tokens, of which {response.accepted} accepted")
    path = response.path or range(response.accepted)  # a server that knows no trees leaves it out
    if len(path) != response.accepted:
        raise InternalError(f"the reply has a path of {len(path)} tokens, of which {response.accepted} accepted")
    return VerifyResult(
        samples=repeated(response.samples, np.int32),
        accepted=response.accepted,
        path=repeated(path, np.int32),
        seed=response.seed,
        rng=response.rng,
        row_errors=tuple(map(row_error, response.row_errors)),
        timing=timing_of(response.timing),
    )
