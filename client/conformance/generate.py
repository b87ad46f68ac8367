"""`python -m client.conformance.generate`: write vectors.json; `--check` proves that the file is what would be written.

What each part means is told in README.md.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from google.protobuf.json_format import MessageToDict
from scipy import stats

from client.conformance import own_requests
from client.conformance.cases import PROCESSED, WORKED_EXAMPLE, Case, cases
from client.conformance.replies import draft_reply, sample_reply
from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.core.request import RNG

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message

PATH = Path(__file__).parent / "vectors.json"
_TOLERANCE = 1e-4
_ALPHA = 1e-6
_DRAWS = 20_000
_SLOW = {"vocab_size": 100_000, "modulus": 97, "num_samples": 4_000_000}
"""A request that keeps a server busy for a second or two: to cancel, and to be late for."""


def vectors() -> dict[str, Any]:
    """Work everything out."""
    return {
        "version": 1,
        "rng": RNG,
        "tolerance": _TOLERANCE,
        "calls": list(_calls()),
        "parameters": own_requests.parameters(),
        "arrays": list(_arrays()),
        "guidance": list(own_requests.guidance()),
        "drafts": list(own_requests.drafts()),
        "chunks": own_requests.chunks(),
        "frequencies": list(_frequencies()),
        "slow": _SLOW,
    }


def _calls() -> Iterator[dict[str, Any]]:
    uploaded: dict[str, pb.Tensor] = {}
    for case in cases():
        call: dict[str, Any] = {"name": case.name, "rpc": case.rpc, "request": _encode(case.request)}
        if case.failure is not None:
            call["error"] = {"code": case.failure.code, "fields": list(case.failure.fields)}
        else:
            call["reply"] = _reply(case, uploaded)
        yield call


def _reply(case: Case, uploaded: dict[str, pb.Tensor]) -> dict[str, Any]:
    request = case.request
    if isinstance(request, pb.VerifyDraftRequest):
        return _to_json(draft_reply(request))
    if isinstance(request, pb.CreateDistributionRequest):
        uploaded[request.name] = request.tensor
        return {}
    if not isinstance(request, pb.SampleRequest):
        return {}
    inline = pb.SampleRequest()
    inline.CopyFrom(request)
    if request.HasField("distribution"):
        inline.tensor.CopyFrom(uploaded[request.distribution])
    return _to_json(sample_reply(inline))


def _to_json(message: Message) -> dict[str, Any]:
    fields: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True, use_integers_for_enums=True)
    return fields


def _encode(message: Message) -> str:
    return base64.b64encode(message.SerializeToString(deterministic=True)).decode()


def _arrays() -> Iterator[dict[str, Any]]:
    """Rows as numbers, for what a client itself makes of them."""
    grid = np.concatenate([[0.0, -0.0, 1.0, -2.5, 65504.0, 1e-7, 3.1415927, -1e-3, 2.0**-24], np.linspace(-8, 8, 33)])
    rows = np.stack([grid, grid[::-1]]).astype(np.float32)
    for name in ("F32", "F16", "BF16"):
        if name == "F32":
            data, exact = rows.tobytes(), rows
        elif name == "F16":
            data, exact = rows.astype("<f2").tobytes(), rows.astype("<f2").astype(np.float32)
        else:
            bits = rows.view("<u4")
            rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")  # to nearest, ties to even
            data, exact = rounded.tobytes(), (rounded.astype("<u4") << 16).view(np.float32)
        tensor = pb.Tensor(rows=2, vocab_size=rows.shape[1], data=exact.astype("<f4").tobytes())
        params = pb.SamplingParams(temperature=20000.0)
        reply = sample_reply(pb.SampleRequest(tensor=tensor, params=params, seed=42, num_samples=6))
        yield {
            "name": f"two rows as {name}",
            "rows": rows.tolist(),
            "dtype": name,
            "temperature": 20000.0,
            "seed": 42,
            "num_samples": 6,
            "data": base64.b64encode(data).decode(),
            "samples": list(reply.samples),
        }


def _frequencies() -> Iterator[dict[str, Any]]:
    """Unseeded draws, and what their chi-squared statistic may be."""
    rng = np.random.default_rng(11)
    laws: list[tuple[str, pb.SampleRequest]] = []
    values = pb.Values(row=[pb.Values.Row(values=WORKED_EXAMPLE)])
    laws.append(("the worked example", pb.SampleRequest(values=values, params=pb.SamplingParams(temperature=0.7))))
    for name, params in {
        "32 categories": pb.SamplingParams(),
        "top_p 0.9": pb.SamplingParams(top_p=0.9),
        "top_k 7 at T = 1.5": pb.SamplingParams(temperature=1.5, top_k=7),
    }.items():
        row = rng.normal(0.0, 1.0, 32).astype("<f4")
        tensor = pb.Tensor(rows=1, vocab_size=32, data=row.tobytes())
        laws.append((name, pb.SampleRequest(tensor=tensor, params=params)))
    for name, request in laws:
        size = request.tensor.vocab_size or len(WORKED_EXAMPLE)
        probed = pb.SampleRequest()
        probed.CopyFrom(request)
        probed.outputs.logprobs.append(PROCESSED)
        probed.outputs.logprob_ids.extend(range(size))
        probabilities = np.exp(np.array(sample_reply(probed).logprobs[0].named, np.float64))
        possible = int((probabilities > 0).sum())
        request.num_samples = _DRAWS
        yield {
            "name": name,
            "request": _encode(request),
            "probabilities": [round(float(p), 9) for p in probabilities],
            "draws": _DRAWS,
            "alpha": _ALPHA,
            "critical": round(float(stats.chi2.isf(_ALPHA, possible - 1)), 4),
        }


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Write the conformance vectors.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the file would change")
    args = parser.parse_args()
    text = json.dumps(vectors(), indent=1, allow_nan=False) + "\n"
    if not args.check:
        PATH.write_text(text)
        return 0
    if text != PATH.read_text():
        sys.stderr.write("client/conformance/vectors.json is stale: run make conformance-vectors\n")
        return 1
    sys.stdout.write("the conformance vectors are fresh\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
