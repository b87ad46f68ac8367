"""Use an installed wheel as a client's user does: no torch, no server, no checkout.

    python -m scripts.check_wheel ENVIRONMENT PROTOC_PYTHON

ENVIRONMENT is a virtual environment that holds the wheel and the base install; PROTOC_PYTHON is a python with
grpcio-tools. Ends with a sentence on what is wrong, or with one that says that nothing is.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

__all__ = ["check"]

_IMPORTS = """
import samplerd_client, samplerd_client.client, samplerd_client.sync
import samplerd.v1.sampler_pb2_grpc, samplerd.oip.grpc_service_pb2_grpc
from importlib.resources import files
from importlib.util import find_spec
assert find_spec("torch") is None, "torch is installed"
for package, name, service in (
    ("samplerd.v1", "sampler.proto", "service SamplerService"),
    ("samplerd.oip", "grpc_service.proto", "service GRPCInferenceService"),
):
    assert service in (files(package) / name).read_text(encoding="utf-8"), f"{package} lacks {name}"
print(files("samplerd.v1").parents[1])
"""
_TYPED = """
from samplerd.v1 import sampler_pb2 as pb
from samplerd_client import SamplingParams
pb.SampleRequest(seed=1)
SamplingParams(temperature=0.5)
"""
_MISTYPED = (
    "from samplerd.v1 import sampler_pb2 as pb; pb.SampleRequest(seed='one')",
    "from samplerd_client import SamplingParams; SamplingParams(temperature='warm')",
)
_REQUEST = '{"values": {"row": [{"values": [1, 2, 0.5, 1.5]}]}, "params": {"temperature": 0.7}, "numSamples": 3}'
_REPLY = '{"samples": [1, 3, 3], "seed": "42", "rng": "philox4x32-10/2", "final": true}'
_INSTALL = "samplerd: the server needs pip install 'samplerd[server]'"


def check(environment: Path, protoc: Path) -> None:
    """Try imports, both commands, the contracts and the types.

    Raises:
        SystemExit: something is wrong; the message says what.

    """
    folder = environment / "bin"
    with tempfile.TemporaryDirectory() as elsewhere:  # where no checkout is found

        def run(*command: object) -> subprocess.CompletedProcess[str]:
            told: dict[str, Any] = {"cwd": elsewhere, "env": {}, "capture_output": True, "text": True}
            return subprocess.run([*map(str, command)], check=False, **told)  # noqa: S603  # of the wheel

        imports = run(folder / "python", "-W", "error", "-c", _IMPORTS)
        _expect(imports.returncode == 0, "the imports fail", imports)
        told = run(folder / "samplerctl", "--help")
        _expect(told.returncode == 0, "samplerctl --help fails", told)
        for name, text in (("request.json", _REQUEST), ("reply.json", _REPLY)):
            (Path(elsewhere) / name).write_text(text, encoding="utf-8")
        replayed = run(folder / "samplerctl", "replay", "request.json", "reply.json")
        _expect(replayed.returncode == 0, "samplerctl replay fails", replayed)
        refused = run(folder / "samplerd")
        is_said = refused.stderr.startswith(_INSTALL) and refused.stderr.count("\n") == 1
        _expect(refused.returncode == 2 and is_said, "samplerd does not say in one line what to install", refused)
        packages = imports.stdout.strip()
        contracts = ("samplerd/v1/sampler.proto", "samplerd/oip/grpc_service.proto")
        compiled = run(protoc, "-m", "grpc_tools.protoc", f"-I{packages}", "--descriptor_set_out=/dev/null", *contracts)
        _expect(compiled.returncode == 0, "protoc does not take the contracts of the wheel", compiled)
        mypy = (sys.executable, "-m", "mypy", "--strict", "--python-executable", folder / "python", "-c")
        typed = run(*mypy, _TYPED)
        _expect(typed.returncode == 0, "the package is not typed", typed)
        for program in _MISTYPED:
            _expect(run(*mypy, program).returncode == 1, f"mypy takes {program!r}", typed)


def _expect(condition: object, complaint: str, done: subprocess.CompletedProcess[str]) -> None:
    if not condition:
        raise SystemExit(f"{complaint}: status {done.returncode}\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    check(*(Path(argument).absolute() for argument in sys.argv[1:]))
    print("the wheel's client works without torch, is typed, and brings its contracts")
