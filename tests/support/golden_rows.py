"""Batches of rows whose results are stored, so that a GPU can be held against the CPU's bits on a machine of any kind.

The numbers are made by integer arithmetic alone, the same everywhere. After the law has changed, on purpose:
``python -m tests.support.golden_rows`` writes what the compiled kernels of the CPU give.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from samplerd_server.core.enums import Dtype, InputKind, LogprobKind
from tests.support.samplers import make_sampler, outputs, params, request

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from samplerd_server.core.request import SampleRequest
    from samplerd_server.sampling.rows import RowResults

PATH = Path(__file__).parents[1] / "gpu" / "golden.json"
TEMPERATURES = (0.0, 0.05, 0.7, 1.0, 1.3, 50.0)
WIDTHS = (40, 512, 1_000, 32_768)
SCALED = outputs(LogprobKind.RAW, LogprobKind.SCALED, top_n=5, rank=True, kept=True, entropy=(LogprobKind.SCALED,))
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "top_k and top_p": {"top_k": 40, "top_p": 0.9},
    "top_p": {"top_p": 0.95},
    "typical_p and min_p": {"typical_p": 0.9, "min_p": 0.01},
    "penalties": {"history": np.arange(0, 30, 3, dtype=np.int32), "repetition_penalty": 1.3, "presence_penalty": 0.2},
}


@np.errstate(over="ignore")
def numbers(width: int, salt: int) -> NDArray[np.float64]:
    """float64[width]: about normal, with a standard deviation of 3; each is a sum of four hashes."""
    i = np.arange(width, dtype=np.uint64) + np.uint64(salt << 32)
    total = np.zeros(width)
    for k in range(1, 5):
        h = (i + np.uint64(k) * np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0xBF58476D1CE4E5B9)
        h ^= h >> np.uint64(31)
        h *= np.uint64(0x94D049BB133111EB)
        h ^= h >> np.uint64(29)
        total += (h >> np.uint64(40)).astype(np.float64) * 2.0**-24 - 0.5
    return total * 5.196152422706632


def batch(kind: str, widths: tuple[int, ...] = WIDTHS) -> list[SampleRequest]:
    """Requests with one kind of parameters, each of another width, dtype and temperature."""
    asked = []
    for at, width in enumerate(widths):
        for number, temperature in enumerate(TEMPERATURES):
            salt = 1 + 10 * at + number
            is_weights = number == 3
            x = numbers(width, salt)
            asked.append(
                request(
                    np.abs(x) if is_weights else x,
                    tuple(Dtype)[salt % len(Dtype)],
                    kind=InputKind.PROBABILITIES if is_weights else InputKind.LOGITS,
                    params=params(temperature=temperature, **KINDS[kind]),
                    outputs=SCALED,
                    num_samples=3,
                    seed=salt * 0x9E3779B97F4A7C15 % 2**64,
                    with_replacement=kind != "plain" or number % 2 == 0,
                )
            )
    return asked


def digest(results: RowResults) -> dict[str, Any]:
    """What is stored: the status and the samples, and a digest of the bytes of all other outputs."""
    other = hashlib.sha256()
    for field in dataclasses.fields(results):
        own = getattr(results, field.name)
        for values in own.values() if isinstance(own, dict) else [own]:
            if values is not None:
                other.update(np.ascontiguousarray(values).tobytes())
    return {
        "status": results.status.tolist(),
        "samples": results.samples.tolist(),
        "outputs": other.hexdigest(),
    }


def stored() -> dict[str, Any]:
    own: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))
    return own


def main() -> None:
    from samplerd_server.batching.pack import pack  # noqa: PLC0415  # a command, not a part of the module

    sampler = make_sampler("numba")
    lines = [f'  "{kind}": {json.dumps(digest(sampler.sample(pack(batch(kind)))))}' for kind in KINDS]
    PATH.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
