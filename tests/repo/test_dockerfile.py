"""The image's recipe: what can be checked without an engine that builds it."""

import re
import subprocess
import sys

from tests.support.dockerfile import DOCKERFILE, ROOT, arguments, instructions, last_stage
from tests.support.tools import need


def test_the_build_and_the_image_are_two_stages() -> None:
    stages = [given for name, given in instructions() if name == "FROM"]
    assert len(stages) == 2
    assert stages[0].endswith(" AS build")
    assert " AS " not in stages[1]
    assert not [given for name, given in last_stage() if name == "RUN"], "what is built belongs to the first stage"
    assert all(given.startswith("--from=build") for given in arguments("COPY"))


def test_it_does_not_run_as_root() -> None:
    (user,) = arguments("USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user), "a number, which an orchestrator can check"


def test_it_serves_on_all_addresses_and_says_so() -> None:
    assert arguments("EXPOSE") == ["50051 9464"]
    environment = " ".join(arguments("ENV"))
    assert "SAMPLERD_LISTEN=0.0.0.0:50051" in environment
    assert "SAMPLERD_METRICS_LISTEN=0.0.0.0:9464" in environment
    assert arguments("ENTRYPOINT") == ['["samplerd"]']


def test_the_kernel_cache_is_built_in_writable_and_found() -> None:
    (volume,) = arguments("VOLUME")
    assert f"NUMBA_CACHE_DIR={volume}" in " ".join(arguments("ENV"))
    build = "\n".join(given for _, given in instructions()[: -len(last_stage())])
    assert f"NUMBA_CACHE_DIR={volume}" in build
    assert "python -m samplerd_server.precompile" in build
    assert any(f"--chown={arguments('USER')[0]} {volume}" in given for given in arguments("COPY"))


def test_its_variables_are_a_configuration_that_samplerd_takes() -> None:
    variables = dict(re.findall(r"(SAMPLERD_\w+)=(\S+)", " ".join(arguments("ENV"))))
    assert variables.pop("SAMPLERD_DEVICE") == "${DEVICE}"
    assert "cpu" in [given.removeprefix("DEVICE=") for given in arguments("ARG")]
    for device in ("cpu", "cuda"):
        checked = subprocess.run(
            [sys.executable, "-m", "samplerd_server", "--check-config"],
            env={**variables, "SAMPLERD_DEVICE": device},
            capture_output=True,
            text=True,
            check=False,
        )
        assert checked.returncode == 0, checked.stderr
        assert "0.0.0.0:50051" in checked.stdout


def test_the_context_is_what_the_wheel_is_made_of_and_nothing_else() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert lines[0] == "*"
    allowed = [line[1:] for line in lines if line.startswith("!")]
    assert sorted(allowed) == [
        *("LICENSE", "README.md", "client/python", "constraints.txt", "protos", "pyproject.toml", "server"),
    ]
    assert all((ROOT / path).exists() for path in allowed)


def test_no_host_of_packages_is_written_into_it() -> None:
    assert not re.search(r"https?://", DOCKERFILE.read_text())


def test_hadolint_is_content() -> None:
    program = need("hadolint")
    done = subprocess.run([program, str(DOCKERFILE)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
