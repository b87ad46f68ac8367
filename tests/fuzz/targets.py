"""Every target of the fuzzing by its name: what it is given, and what it does with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from tests.fuzz import decoding, inference, memory, web

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import SearchStrategy


class Target(NamedTuple):
    """Raises what an input has shown to be wrong."""

    inputs: SearchStrategy[Any]
    run: Callable[[Any], None]


TARGETS = {
    "sample_request": Target(decoding.sample_requests, decoding.sample_request),
    "draft_request": Target(decoding.draft_requests, decoding.draft_request),
    "new_distribution": Target(decoding.new_distributions, decoding.new_distribution),
    "same_answer": Target(web.requests, web.same_answer),
    "some_answer": Target(web.calls, web.some_answer),
    "same_inference": Target(inference.inferences, inference.same_inference),
    "some_http_answer": Target(inference.http_calls, inference.some_http_answer),
    "some_grpc_answer": Target(inference.infer_messages, inference.some_grpc_answer),
    "same_rows": Target(memory.references, memory.same_rows),
    "same_registered_rows": Target(memory.references, memory.same_registered_rows),
}
