"""What a peer's worker reads and writes. It runs in the peer's environment and imports nothing but numpy.

`python WORKER.py IN.npz OUT.npz`: IN has `jobs`, JSON, a list of {rows: name of a float32[B, V], params: B dicts of
samplerd's parameters by name}; OUT has `weights_i` of job i, float64[B, V]: what the peer draws from, up to a factor,
0 = dropped. Parameters that a worker does not know end it, so that nothing is left out in silence.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable


def weights(logits: Any) -> np.ndarray:
    """Exponentiate float logits in float64; -inf is 0."""
    row = np.asarray(logits, np.float64).reshape(-1)
    return np.exp(row - row.max())


def serve(process: Callable[[np.ndarray, dict[str, Any]], np.ndarray], known: set[str]) -> None:
    """Answer all jobs of the file named by the first argument into the file named by the second."""
    source = np.load(sys.argv[1])
    answers = {}
    for number, job in enumerate(json.loads(str(source["jobs"]))):
        rows = source[job["rows"]]
        answer = np.empty(rows.shape, np.float64)
        for at, params in enumerate(job["params"]):
            unknown = params.keys() - known
            if unknown:
                raise SystemExit(f"this worker does not know {', '.join(sorted(unknown))}")
            answer[at] = process(rows[at].copy(), params)
        answers[f"weights_{number}"] = answer
    np.savez(sys.argv[2], **answers)
