"""What ``samplerctl sample`` writes for programs: JSON objects, or named arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from samplerd_client.result import SampleResult

__all__ = ["arrays_of", "records_of"]


def arrays_of(result: SampleResult, row_seeds: Sequence[int] | None) -> dict[str, NDArray[Any]]:
    """Return all that was asked for by name, each [B, ..]; a kind of log-probability is behind a dot: logprobs.raw."""
    arrays: dict[str, Any] = {"samples": result.samples, "seed": np.uint64(result.seed), "rng": np.str_(result.rng)}
    if row_seeds is not None:
        arrays["row_seeds"] = np.array(row_seeds, np.uint64)
    for name, by_kind in _by_kind(result).items():
        arrays |= {f"{name}.{kind}": values for kind, values in by_kind.items()}
    return arrays | {name: values for name, values in _by_name(result).items() if values is not None}


def records_of(result: SampleResult, row_seeds: Sequence[int] | None) -> list[dict[str, Any]]:
    """Return one JSON object for each row."""
    failed = {error.row: error for error in result.row_errors}
    records = []
    for row, samples in enumerate(result.samples):
        record: dict[str, Any] = {"row": row, "seed": result.seed, "rng": result.rng, "samples": samples.tolist()}
        if row_seeds is not None:
            record["seed"] = row_seeds[row]
        if row in failed:
            record["error"] = {"reason": failed[row].reason.name, "message": failed[row].message}
        for name, arrays in _by_kind(result).items():
            if arrays:
                record[name] = {kind: _plain(array[row]) for kind, array in arrays.items()}
        for name, values in _by_name(result).items():
            if values is not None:
                record[name] = _plain(values[row])
        records.append(record)
    return records


def _by_kind(result: SampleResult) -> dict[str, dict[str, NDArray[Any]]]:
    named = {
        "logprobs": result.logprobs,
        "top_ids": result.top_ids,
        "top_logprobs": result.top_logprobs,
        "entropy": result.entropies,
    }
    return cast("dict[str, dict[str, NDArray[Any]]]", named)


def _by_name(result: SampleResult) -> dict[str, NDArray[Any] | None]:
    return {
        "ranks": result.ranks,
        "kept": result.kept_count,
        "kept_mass": result.kept_mass,
        "adaptive_weighted_sum": result.adaptive_weighted_sum,
        "adaptive_total_weight": result.adaptive_total_weight,
    }


def _plain(values: Any) -> Any:
    """Return numbers as JSON has them: what is not finite is null."""
    if isinstance(values, np.ndarray):
        return [_plain(value) for value in values]
    return values.item() if np.isfinite(values) else None
