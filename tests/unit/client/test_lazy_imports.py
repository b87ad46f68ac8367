"""What is imported only when it is needed: by counting modules, since times say nothing on a busy machine."""

from __future__ import annotations

import subprocess
import sys

import pytest

import samplerd_client

HEAVY = {"numpy", "grpc", "asyncio", "torch", "numba", "samplerd_server"}
REPORT = "\nsys.stderr.write('\\n' + ' '.join(sys.modules))"


def modules_after(code: str) -> set[str]:
    run = subprocess.run(
        [sys.executable, "-c", f"import sys\nsys.path[:] = {sys.path!r}\n{code}{REPORT}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return set(run.stderr.splitlines()[-1].split())


def test_importing_the_client_imports_nothing_else() -> None:
    loaded = modules_after("import samplerd_client")
    assert not loaded & (HEAVY | {"google.protobuf"})
    assert len(loaded) < 100


def test_a_name_brings_its_module_and_no_more() -> None:
    loaded = modules_after("from samplerd_client import SamplingParams\nSamplingParams(temperature=0.5)")
    assert "samplerd_client.sampling_params" in loaded
    assert not loaded & {"samplerd_client.client", "samplerd_client.sync", *HEAVY}


def test_the_package_of_engines_brings_none_of_them() -> None:
    loaded = modules_after("import samplerd_client.integrations\nimport samplerd_client.integrations.rows")
    assert "samplerd_client.integrations.rows" in loaded
    of_engines = {f"samplerd_client.integrations.{name}" for name in ("transformers", "llama_cpp", "llama_cpp_loop")}
    assert not loaded & {"torch", "transformers", "llama_cpp", *of_engines}


@pytest.mark.parametrize("arguments", [["--help"], ["sample", "--help"], ["--version"], ["sample", "--nonsense"]])
def test_what_samplerctl_says_of_itself_needs_neither_grpc_nor_numpy(arguments: list[str]) -> None:
    code = f"""
from samplerd_client.samplerctl import main
try:
    main({arguments!r})
except SystemExit:
    pass"""
    loaded = modules_after(code)
    assert not loaded & HEAVY
    assert len(loaded) < 220


def test_every_public_name_is_found() -> None:
    names = set(samplerd_client.__all__)
    assert set(samplerd_client._MODULES) | {"__version__"} == names
    assert names <= set(dir(samplerd_client))
    for name, module in samplerd_client._MODULES.items():
        assert getattr(samplerd_client, name).__module__ == f"samplerd_client.{module}"


def test_no_other_name_is() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Sampler'"):
        samplerd_client.Sampler  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(ImportError):
        from samplerd_client import Sampler  # type: ignore[attr-defined]  # noqa: F401, PLC0415
