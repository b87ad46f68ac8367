"""The wheel in one environment, and in one process, with other clients of the Open Inference Protocol."""

from __future__ import annotations

import subprocess

import pytest

from client.conformance.servers import samplerd
from tests.ranges.environments import BESIDE, FOLDER

pytestmark = pytest.mark.ranges

PROGRAM = """
import importlib, sys
target, *order = sys.argv[1:]
for name in order:
    importlib.import_module(name)
import numpy as np
from samplerd_client import SyncSamplerClient
row = np.array([1, 2, 0.5, 1.5], np.float32)
with SyncSamplerClient(target) as client:
    ours = client.sample(row, temperature=0.7, seed=42, num_samples=5).samples.ravel().tolist()
if "tritonclient.grpc" in order:
    import tritonclient.grpc as triton
    logits = triton.InferInput("logits", [1, 4], "FP32")
    logits.set_data_from_numpy(row.reshape(1, 4))
    asked = {"temperature": 0.7, "seed": 42, "num_samples": 5}
    with triton.InferenceServerClient(target) as client:
        theirs = client.infer("sampler", [logits], parameters=asked).as_numpy("samples").ravel().tolist()
    assert ours == theirs, (ours, theirs)
print(ours)
"""


def run(*arguments: str) -> str:
    command = [str(BESIDE), *arguments]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=240, check=False, env={})
    assert done.returncode == 0, f"{done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done.stdout


def test_pip_finds_nothing_broken() -> None:
    assert "No broken requirements" in run("-m", "pip", "check", "--disable-pip-version-check")


def test_they_work_in_one_process() -> None:
    own = ("samplerd_client", "samplerd.oip.grpc_service_pb2_grpc", "samplerd.v1.sampler_pb2_grpc")
    with samplerd("--kernel", "torch") as server:
        drawn = {
            run("-W", "ignore", "-c", PROGRAM, server.target, *order)
            for theirs in ("tritonclient.grpc", "kserve")
            for order in ((*own, theirs), (theirs, *own))
        }
    assert len(drawn) == 1
