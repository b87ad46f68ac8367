"""What a sampler that implements the whole contract offers, as GetServerInfo names it."""

from __future__ import annotations

from samplerd_server.sampling.parameters import PARAMETERS

__all__ = ["capabilities"]

_OUTPUTS = ("top_n", "logprob_ids", "rank", "entropy", "kept", "adaptive_state", "logprobs.processed")


def capabilities() -> frozenset[str]:
    """List every parameter of the table, every output, candidates, guidance rows, and drafts that are trees."""
    return frozenset(
        [
            *(f"SamplingParams.{row.name}" for row in PARAMETERS),
            *(f"Outputs.{name}" for name in _OUTPUTS),
            "SampleRequest.candidates",
            "SampleRequest.guidance",
            "VerifyDraftRequest.parents",
        ]
    )
