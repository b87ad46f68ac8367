"""Compile the sampler of ExLlamaV2, which runs on a CPU, into this environment: `exllamav2_sampler`.

Its source includes headers of CUDA and uses nothing of them: empty files take their place.
"""

from __future__ import annotations

import subprocess
import sysconfig
from importlib.metadata import distribution
from pathlib import Path

import torch
from torch.utils.cpp_extension import include_paths

NAME = "exllamav2_sampler"
STUBS = ("c10/cuda/CUDAGuard.h", "ATen/cuda/CUDAContext.h", "cuda_runtime.h", "cuda_fp16.h")
SOURCES = ("ext_sampling.cpp", *(f"cpp/{name}.cpp" for name in ("sampling", "sampling_avx2", "profiling", "generator")))


def build() -> None:
    """Run the compiler; a minute."""
    packages = Path(sysconfig.get_path("purelib"))
    source = Path(str(distribution("exllamav2").locate_file("exllamav2/exllamav2_ext")))
    stubs = packages / f"{NAME}_stubs"
    for name in STUBS:
        (stubs / name).parent.mkdir(parents=True, exist_ok=True)
        (stubs / name).touch()
    libraries = Path(torch.__file__).parent / "lib"
    subprocess.run(
        [
            *("g++", "-O2", "-std=c++20", "-fPIC", "-shared", "-w", f"-DTORCH_EXTENSION_NAME={NAME}"),
            *(f"-I{path}" for path in (stubs, source, *include_paths(), sysconfig.get_path("include"))),
            str(Path(__file__).with_name(f"{NAME}.cpp")),
            *(str(source / name) for name in SOURCES),
            *(f"-L{libraries}", f"-Wl,-rpath,{libraries}", "-ltorch", "-ltorch_cpu", "-lc10", "-ltorch_python"),
            *("-o", str(packages / f"{NAME}.so")),
        ],
        check=True,
    )


if __name__ == "__main__":
    build()
