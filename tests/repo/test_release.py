"""What a release says of itself: what each package needs, and where its files came from."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

from scripts.release import bill_of_materials as bills
from scripts.release.go_module import write_module
from scripts.release.provenance import statement, sums

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "client"


def test_materials_are_what_the_package_managers_are_told():
    go = {own.url for own in bills.go_module(CLIENT / "go" / "go.mod")}
    assert "pkg:golang/google.golang.org/grpc@v1.64.0" in go
    gems = {own.name: own.version for own in bills.gem(CLIENT / "ruby" / "samplerd-client.gemspec")}
    assert gems == {"googleapis-common-protos-types": "~> 1.4", "google-protobuf": ">= 3.21, < 5", "grpc": "~> 1.51"}
    jars = {own.url for own in bills.maven(CLIENT / "java" / "pom.xml")}
    assert "pkg:maven/io.grpc/grpc-stub@1.41.3" in jars
    assert not any("junit" in url for url in jars)
    assert [own.url for own in bills.cmake(CLIENT / "cpp" / "CMakeLists.txt")] == [
        "pkg:generic/Protobuf",
        "pkg:generic/gRPC",
    ]


def test_a_range_is_no_version_of_a_package_url():
    assert bills.Material("gem", "grpc", "~> 1.51").url == "pkg:gem/grpc"
    assert bills.Material("gem", "grpc", "1.51.0").url == "pkg:gem/grpc@1.51.0"


def test_a_bill_that_another_program_wrote_gets_its_version():
    written = json.dumps({"metadata": {"component": {"name": "own"}}, "components": []})
    assert json.loads(bills.versioned(written, "pypi", "1.0"))["metadata"]["component"] == {
        "name": "own",
        "version": "1.0",
        "purl": "pkg:pypi/own@1.0",
    }


def test_a_bill_names_what_its_package_depends_on():
    bill = json.loads(bills.document("app", "1.0", "gem", [bills.Material("gem", "grpc", "1.51.0")]))
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["dependencies"] == [{"ref": "pkg:gem/app@1.0", "dependsOn": ["pkg:gem/grpc@1.51.0"]}]
    assert [own["purl"] for own in bill["components"]] == ["pkg:gem/grpc@1.51.0"]


def test_the_go_module_lies_as_a_proxy_serves_it(tmp_path):
    (tmp_path / "made" / "inner").mkdir(parents=True)
    (tmp_path / "made" / "go.mod").write_text("module own.example/go\n")
    (tmp_path / "made" / "inner" / "own.go").write_text("package inner\n")
    about = {"module": "own.example/go", "version": "v1.2.3", "time": "2026-01-01T00:00:00+00:00"}
    for proxy in ("proxy", "again"):
        write_module(tmp_path / "made", tmp_path / proxy, **about)
    folder = tmp_path / "proxy" / "own.example" / "go" / "@v"
    assert (folder / "list").read_text() == "v1.2.3\n"
    assert json.loads((folder / "v1.2.3.info").read_text())["Version"] == "v1.2.3"
    assert (folder / "v1.2.3.mod").read_text() == "module own.example/go\n"
    names = zipfile.ZipFile(folder / "v1.2.3.zip").namelist()
    assert names == ["own.example/go@v1.2.3/go.mod", "own.example/go@v1.2.3/inner/own.go"]
    assert sums(tmp_path / "proxy") == sums(tmp_path / "again")


def test_provenance_names_every_file_and_the_commit(tmp_path):
    (tmp_path / "npm").mkdir()
    (tmp_path / "npm" / "a.tgz").write_bytes(b"a")
    digests = sums(tmp_path)
    assert digests == {"npm/a.tgz": hashlib.sha256(b"a").hexdigest()}
    said = statement(digests, commit="0" * 40, is_clean=False, started="2026-01-01T00:00:00+00:00", finished="later")
    assert said["subject"] == [{"name": "npm/a.tgz", "digest": {"sha256": digests["npm/a.tgz"]}}]
    (source,) = said["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert source["digest"] == {"gitCommit": "0" * 40}
    assert source["annotations"] == {"isClean": False}
