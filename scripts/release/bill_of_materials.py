"""What each package needs, as CycloneDX: read from the files by which its own package manager resolves it."""

from __future__ import annotations

import json
import re
import tarfile
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Material", "cmake", "document", "gem", "go_module", "maven", "rust_crate", "versioned"]

_POM = "{http://maven.apache.org/POM/4.0.0}"


@dataclass(frozen=True, slots=True)
class Material:
    """One package that another one needs."""

    kind: str
    """The type of its package URL: golang, cargo, gem, maven, generic."""
    name: str
    version: str
    """A version, or the range that is asked for where nothing has been resolved; empty = any."""

    @property
    def url(self) -> str:
        """Its package URL, by https://github.com/package-url/purl-spec."""
        version = "" if not self.version or re.search("[<>=~ ]", self.version) else f"@{self.version}"
        return f"pkg:{self.kind}/{self.name}{version}"


def document(name: str, version: str, kind: str, materials: list[Material]) -> str:
    """Give the text of a bill of materials in CycloneDX 1.5."""
    components = [
        {"type": "library", "bom-ref": own.url, "name": own.name, "version": own.version, "purl": own.url}
        for own in materials
    ]
    root = Material(kind, name, version)
    bill: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {"type": "library", "bom-ref": root.url, "name": name, "version": version, "purl": root.url}
        },
        "components": components,
        "dependencies": [{"ref": root.url, "dependsOn": [own.url for own in materials]}],
    }
    return json.dumps(bill, indent=2) + "\n"


def go_module(go_mod: Path) -> list[Material]:
    """Give what a go.mod requires, directly and not."""
    found = re.findall(r"^\t(\S+) (v\S+)", go_mod.read_text(encoding="utf-8"), re.MULTILINE)
    return [Material("golang", module, version) for module, version in found]


def rust_crate(crate: Path) -> list[Material]:
    """Give what the Cargo.lock within a packaged crate has resolved."""
    with tarfile.open(crate) as archive:
        name = next(name for name in archive.getnames() if name.endswith("/Cargo.lock"))
        lock = archive.extractfile(name)
        assert lock is not None
        packages = tomllib.loads(lock.read().decode())["package"]
    return [Material("cargo", own["name"], own["version"]) for own in packages if own["name"] != "samplerd-client"]


def versioned(bill: str, kind: str, version: str) -> str:
    """Give a bill whose own package has a version, which pyproject.toml leaves to the build."""
    whole: dict[str, Any] = json.loads(bill)
    own = whole["metadata"]["component"]
    own |= {"version": version, "purl": Material(kind, own["name"], version).url}
    return json.dumps(whole, indent=2) + "\n"


def cmake(lists: Path) -> list[Material]:
    """Give what a CMakeLists.txt must find on the machine, in any version."""
    found = re.findall(r"^find_package\((\w+)[^)]*\bREQUIRED\)", lists.read_text(encoding="utf-8"), re.MULTILINE)
    return [Material("generic", name, "") for name in found]


def gem(gemspec: Path) -> list[Material]:
    """Give what a gemspec asks for, as ranges."""
    found = re.findall(r'add_dependency "([^"]+)", (.+)', gemspec.read_text(encoding="utf-8"))
    return [Material("gem", name, asked.replace('"', "")) for name, asked in found]


def maven(pom: Path) -> list[Material]:
    """Give what a pom asks for at compile time and at run time."""
    root = ET.parse(pom).getroot()  # noqa: S314  # our own file
    properties = {own.tag.removeprefix(_POM): own.text or "" for own in root.find(f"{_POM}properties") or ()}
    found = []
    for own in root.iterfind(f"{_POM}dependencies/{_POM}dependency"):
        field = {child.tag.removeprefix(_POM): child.text or "" for child in own}
        if field.get("scope") in {"test", "provided"}:
            continue
        version = re.sub(r"\$\{([^}]+)\}", lambda match: properties[match[1]], field["version"])
        found.append(Material("maven", f"{field['groupId']}/{field['artifactId']}", version))
    return found
