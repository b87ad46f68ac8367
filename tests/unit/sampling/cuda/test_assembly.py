"""What the compiler makes of the kernels for a GPU, without one: nothing may round otherwise than on the CPU."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

PROGRAM = """
import json, sys
from samplerd_server.sampling.cuda.build import KERNELS, build
for architecture in map(int, sys.argv[1:]):
    for name in KERNELS:
        made = build(name, architecture)
        own = {key: made[key] for key in ("ptx", "llir")} | {"cubin": made["cubin"].hex(), "kernel": name}
        print(json.dumps(own | {"architecture": architecture}))
"""
ROUNDED_ANYHOW = r"\b(?:add|sub|mul|mad|fma)\.(?:ftz\.)?f(?:32|64)(?:x2)?\b|\.ftz|\.approx|div\.full"
"""An operation that does not say that it rounds to the nearest, may be contracted, or flushes subnormal numbers."""


def compile_for(*architectures: int) -> list[dict[str, str]]:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-c", PROGRAM, *map(str, architectures)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1_500, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(made: dict[str, str], folder) -> None:
    from triton import knobs  # noqa: PLC0415  # after this folder's conftest

    ptx = made["ptx"]
    assert f"sm_{made['architecture']}" in ptx
    assert re.findall(ROUNDED_ANYHOW, ptx) == []
    for bits in (32, 64):
        asked = re.findall(rf"call .*@llvm\.fma\.(?:v(\d+))?f{bits}\(", made["llir"])
        found = re.findall(rf"\bfma\.rn\.f{bits}(?:x(2))?\b", ptx)  # from Blackwell on, two lanes at a time
        fused = sum(int(lanes or 1) for lanes in found)
        assert fused == sum(int(lanes or 1) for lanes in asked), "a * b + c became one operation"
    cubin = folder / "kernel.cubin"
    cubin.write_bytes(bytes.fromhex(made["cubin"]))
    used = subprocess.run(
        [knobs.nvidia.cuobjdump.path, "-res-usage", cubin], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    [stack] = re.findall(r"STACK:(\d+)", used)
    assert int(stack) == 0, f"numbers of a thread are kept in local memory: {used}"
    assert re.findall(r"LOCAL:(\d+)", used) == ["0"], used
    sass = subprocess.run(
        [knobs.nvidia.nvdisasm.path, cubin], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    if made["kernel"] == "adjust":  # its law has no fused operation
        assert "fma" not in ptx
    else:
        assert "FFMA" in sass or "DFMA" in sass
        assert "llvm.fma" in made["llir"]
    assert ".FTZ" not in sass


def test_one_architecture(tmp_path) -> None:
    made = compile_for(90)
    assert len(made) == 8
    for own in made:
        check(own, tmp_path)


@pytest.mark.interpret
@pytest.mark.timeout(1_800)
def test_every_architecture(tmp_path) -> None:
    for own in compile_for(80, 86, 89, 90, 100, 120):
        check(own, tmp_path)


def test_a_process_that_interprets_does_not_compile() -> None:
    from samplerd_server.sampling.cuda.build import build  # noqa: PLC0415  # after this folder's conftest

    with pytest.raises(RuntimeError, match="TRITON_INTERPRET"):
        build("measure", 90)
