"""`python -m scripts.release`: what `make release` runs after every client has made its package."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from datetime import UTC, datetime
from pathlib import Path

from scripts.release import bill_of_materials as bills
from scripts.release.go_module import write_module
from scripts.release.provenance import statement, sums

ROOT = Path(__file__).resolve().parents[2]
DIST = ROOT / "dist"
ENVIRONMENT = ROOT / "build" / "release"
TOOLS = ("build==1.6.1", "twine==7.0.0", "cyclonedx-bom==7.5.0")
PACKAGES = {
    "cargo": "client/rust/build/package/*.crate",
    "gem": "client/ruby/build/package/*.gem",
    "maven": "client/java/build/package/*",
    "npm": "client/node/build/package/*.tgz",
}
"""What the clients' own `make package` has made, by the folder of dist/ that it goes to."""
NEEDED_IN_WHEEL = (
    "samplerd/v1/sampler_pb2.py",
    "samplerd_client/py.typed",
    "samplerd_ray/py.typed",
    "samplerd_server/py.typed",
)


def main() -> int:
    """Return the exit status."""
    started = now()
    shutil.rmtree(DIST, ignore_errors=True)
    DIST.mkdir()
    tools = environment("tools", *TOOLS)
    run(tools / "python", "-m", "build", "--outdir", DIST / "python", ROOT)
    version = check_wheel(tools)
    for folder, pattern in PACKAGES.items():
        take(folder, pattern)
    write_sources(version)
    write_bills(tools, version)
    digests = sums(DIST)
    provenance = statement(digests, commit=git("rev-parse", "HEAD"), is_clean=not git("status", "--porcelain"),
                           started=started, finished=now())  # fmt: skip
    (DIST / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n", encoding="utf-8")
    lines = [f"{digest}  {name}\n" for name, digest in sums(DIST).items()]
    (DIST / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")
    print("".join(lines), end="")
    return 0


def now() -> str:
    """Give the time in RFC 3339, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def run(*command: str | Path, cwd: Path = ROOT) -> None:
    """Run a command; what it prints is shown.

    Raises:
        SystemExit: it failed.

    """
    if subprocess.run([str(word) for word in command], cwd=cwd, check=False).returncode != 0:
        raise SystemExit("this failed: " + " ".join(str(word) for word in command))


def git(*arguments: str) -> str:
    """Give what git prints."""
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def environment(name: str, *requirements: str | Path, pip: Path | None = None) -> Path:
    """Make an environment of Python; give the folder of its programs.

    Args:
        name: Of its folder.
        requirements: What is installed in it.
        pip: Python whose pip installs; None = its own. With another one's, it holds what is needed and nothing else.

    """
    folder = ENVIRONMENT / name
    interpreter = Path(sysconfig.get_config_var("BINDIR")) / f"python{sysconfig.get_python_version()}"
    run(interpreter, "-m", "venv", "--clear", *(["--without-pip"] if pip else []), folder)
    own = folder / "bin" / "python"
    install = (pip or own, "-m", "pip", "--python", own, "install", "--quiet", "--disable-pip-version-check")
    run(*install, "--constraint", ROOT / "constraints.txt", *requirements)
    return folder / "bin"


def take(folder: str, pattern: str) -> None:
    """Copy what a client has made.

    Raises:
        SystemExit: it has made nothing.

    """
    found = sorted(ROOT.glob(pattern))
    if not found:
        raise SystemExit(f"{pattern} is not there: run make package in that client's folder")
    for path in found:
        if path.is_dir():
            shutil.copytree(path, DIST / folder / path.name)
        else:
            (DIST / folder).mkdir(exist_ok=True)
            shutil.copy(path, DIST / folder)


def write_sources(version: str) -> None:
    """Write what is published as sources: the Go module, and the C++ client with the protos that it is built from."""
    time = git("show", "--no-patch", "--format=%cI", "HEAD")
    made = ROOT / "client" / "go" / "build" / "package"
    write_module(made, DIST / "go", module="samplerd.dev/go", version=f"v{version}", time=time)
    (DIST / "cpp").mkdir()
    name = f"samplerd-client-cpp-{version}"
    git("archive", f"--prefix={name}/", "-o", str(DIST / "cpp" / f"{name}.tar.gz"), "HEAD",
        "client/cpp", "protos/samplerd", "protos/third_party/google", "LICENSE")  # fmt: skip


def check_wheel(tools: Path) -> str:
    """Check what the package index would check, and that the wheel holds the packages and nothing else.

    Returns the version.

    Raises:
        SystemExit: something is missing or too much.

    """
    made = sorted((DIST / "python").iterdir())
    run(tools / "twine", "check", "--strict", *made)
    wheel = next(path for path in made if path.suffix == ".whl")
    names = zipfile.ZipFile(wheel).namelist()
    missing = [name for name in NEEDED_IN_WHEEL if name not in names]
    strange = {name.split("/")[0] for name in names} - {name.split("/")[0] for name in NEEDED_IN_WHEEL}
    strange -= {name for name in strange if name.endswith(".dist-info")}
    if missing or strange:
        raise SystemExit(f"the wheel lacks {missing} and has {sorted(strange)} too much")
    return wheel.name.split("-")[1]


def write_bills(tools: Path, version: str) -> None:
    """Write a bill of materials for each package."""
    folder = DIST / "sbom"
    folder.mkdir()
    wheel = next((DIST / "python").glob("*.whl"))
    for name, extra in {"python-client": "", "python-server": "[server]"}.items():
        installed = environment(name, f"{wheel}{extra}", pip=tools / "python")
        bill = folder / f"{name}.cdx.json"
        about = ("--pyproject", ROOT / "pyproject.toml", "--mc-type", "library")
        run(tools / "cyclonedx-py", "environment", *about, "--output-reproducible", "-o", bill, installed / "python")
        bill.write_text(bills.versioned(bill.read_text(encoding="utf-8"), "pypi", version), encoding="utf-8")
    node = ROOT / "client" / "node"
    npm = subprocess.run(
        ["npm", "sbom", "--omit", "dev", "--sbom-format", "cyclonedx"],
        cwd=node,
        capture_output=True,
        text=True,
        check=True,
    )
    (folder / "npm.cdx.json").write_text(npm.stdout, encoding="utf-8")
    client = ROOT / "client"
    crate = next((DIST / "cargo").iterdir())
    written = {
        "go": ("samplerd.dev/go", "golang", bills.go_module(client / "go" / "go.mod")),
        "rust": ("samplerd-client", "cargo", bills.rust_crate(crate)),
        "ruby": ("samplerd-client", "gem", bills.gem(client / "ruby" / "samplerd-client.gemspec")),
        "java": ("dev.samplerd/samplerd-client", "maven", bills.maven(client / "java" / "pom.xml")),
        "cpp": ("samplerd-client-cpp", "generic", bills.cmake(client / "cpp" / "CMakeLists.txt")),
    }
    for language, (name, kind, materials) in written.items():
        (folder / f"{language}.cdx.json").write_text(bills.document(name, version, kind, materials), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
