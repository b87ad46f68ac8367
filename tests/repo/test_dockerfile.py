"""The image's recipe: what can be checked without an engine that builds it."""

import re
import subprocess
import sys

import pytest

from tests.support.dockerfile import DOCKERFILE, ROOT, arguments, environment, instructions, stages
from tests.support.tools import need

IMAGES = ("cpu", "cuda", "envoy")


def test_an_image_is_a_runtime_and_what_a_stage_has_built() -> None:
    found = stages()
    assert list(found)[-1] == "cpu", "the last one is built where no target is named"
    for name in IMAGES:
        assert found[name][0] == ("FROM", f"runtime AS {name}")
        copies = [given for instruction, given in found[name] if instruction == "COPY"]
        assert copies == [f"--from=build-{name} /opt/samplerd /opt/samplerd"]
    for name in ("runtime", *IMAGES):
        assert not [given for instruction, given in found[name] if instruction == "RUN"], "built in another stage"


def test_it_does_not_run_as_root() -> None:
    (user,) = arguments("USER", "runtime")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user), "a number, which an orchestrator can check"


def test_it_serves_on_all_addresses_and_says_so() -> None:
    assert arguments("EXPOSE", "runtime") == ["50051 9464"]
    variables = environment("runtime")
    assert variables["SAMPLERD_LISTEN"] == "0.0.0.0:50051"
    assert variables["SAMPLERD_METRICS_LISTEN"] == "0.0.0.0:9464"
    assert arguments("ENTRYPOINT", "runtime") == ['["samplerd"]']


def test_the_kernels_lie_beside_the_modules_and_others_have_a_volume() -> None:
    for name in ("build", "build-cpu", "build-cuda"):
        assert "NUMBA_CACHE_DIR" not in environment(name), "what is compiled belongs to the installation"
    for name in ("build-cpu", "build-cuda"):
        assert any("python -m samplerd_server.precompile" in given for given in arguments("RUN", name))
    assert any("--cuda" in given and "[server,http,cuda]" in given for given in arguments("RUN", "build-cuda"))
    (volume,) = arguments("VOLUME", "runtime")
    assert environment("runtime")["NUMBA_CACHE_DIR"] == volume
    assert arguments("COPY", "runtime") == [f"--from=build --chmod=1777 {volume} {volume}"], "for every user"


def test_an_image_for_the_cpu_has_no_cuda() -> None:
    def checks(stage: str) -> list[str]:
        return [given for given in arguments("RUN", stage) if "torch.version.cuda" in given]

    (cpu,) = checks("build-cpu")
    (cuda,) = checks("build-cuda")
    assert "assert torch.version.cuda is None" in cpu
    assert "assert torch.version.cuda," in cuda
    assert stages()["build-envoy"][0] == ("FROM", "build-cpu AS build-envoy")


@pytest.mark.parametrize("name", IMAGES)
def test_its_variables_are_a_configuration_that_samplerd_takes(name: str) -> None:
    every = environment("runtime") | environment(name)
    variables = {variable: value for variable, value in every.items() if variable.startswith("SAMPLERD_")}
    checked = subprocess.run(
        [sys.executable, "-m", "samplerd_server", "--check-config"],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    assert f'device = "{"cuda" if name == "cuda" else "cpu"}"' in checked.stdout
    assert f'transport = "{"envoy" if name == "envoy" else "grpcio"}"' in checked.stdout


def test_the_context_is_what_the_wheel_is_made_of_and_nothing_else() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert lines[0] == "*"
    allowed = [line[1:] for line in lines if line.startswith("!")]
    assert sorted(allowed) == [
        *("LICENSE", "README.md", "client/python", "constraints.txt", "protos", "pyproject.toml", "server"),
    ]
    assert all((ROOT / path).exists() for path in allowed)


def test_no_host_of_packages_is_written_into_it() -> None:
    assert set(re.findall(r"https?://([\w.]+)", DOCKERFILE.read_text())) == {"127.0.0.1"}, "its own health check"


def test_torch_is_that_of_the_constraints() -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    for _, given in [own for own in instructions() if own[0] == "ARG" and "TORCH_SPEC" in own[1]]:
        assert given.removeprefix("TORCH_SPEC=") in pins


def test_hadolint_is_content() -> None:
    program = need("hadolint")
    done = subprocess.run([program, str(DOCKERFILE)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
