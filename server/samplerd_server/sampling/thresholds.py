"""The filters that are one formula: keep the categories of at least a threshold mass. One text for every sampler.

A formula gives the threshold from the parameter's value, the largest mass, the total of all masses and the entropy H in
nats. It is on the scale of the masses that it is given; what a filter does not need (`Filter.needs`) may be anything.
It is written with operators that Python's floats, compiled numbers and torch's tensors all have, and with the functions
that each of them brings, whose last bits differ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Threshold", "thresholds"]

Threshold: TypeAlias = "Callable[[Any, Any, Any, Any], Any]"
"""Takes value, largest, total and entropy; returns the smallest mass that is kept."""


def thresholds(
    *, exp: Callable[[Any], Any], sqrt: Callable[[Any], Any], minimum: Callable[[Any, Any], Any]
) -> dict[str, Threshold]:
    """Make the formulas, by name of the filter, of one implementation's functions."""

    def min_p(value: Any, largest: Any, _total: Any, _entropy: Any) -> Any:
        """At least min_p times the largest probability. Source: Nguyen et al., 2024."""
        return value * largest

    def top_a(value: Any, largest: Any, total: Any, _entropy: Any) -> Any:
        """At least top_a times the square of the largest probability. Source: KoboldAI, after RWKV's sampler."""
        return value * largest * (largest / total)

    def epsilon_cutoff(value: Any, _largest: Any, total: Any, _entropy: Any) -> Any:
        """At least the probability epsilon. Source: Hewitt et al., 2022."""
        return value * total

    def eta_cutoff(value: Any, _largest: Any, total: Any, entropy: Any) -> Any:
        """At least the probability min(eta, sqrt(eta) exp(-H)). Source: Hewitt et al., 2022."""
        return minimum(value, sqrt(value) * exp(-entropy)) * total

    return {"min_p": min_p, "top_a": top_a, "epsilon_cutoff": epsilon_cutoff, "eta_cutoff": eta_cutoff}
