"""The audit of pinned dependencies: what fails it, and what it says when it could not ask."""

from __future__ import annotations

import urllib.error
from email.message import Message
from pathlib import Path

import pytest

from scripts.audit import audit, main, pins_of

ROOT = Path(__file__).resolve().parents[2]


class Pypi:
    """Answers as PyPI does."""

    def __init__(self, *, vulnerabilities=(), yanked=False, status="active", error=None) -> None:
        self.vulnerabilities, self.yanked, self.status, self.error = vulnerabilities, yanked, status, error

    def __call__(self, url: str, _accept: str) -> object:
        if url.endswith("/json"):
            if self.error is not None:
                raise self.error
            return {"vulnerabilities": list(self.vulnerabilities)}
        files = [
            {"filename": "some_name-1.0-py3-none-any.whl", "yanked": self.yanked},
            {"filename": "some-name-1.0.tar.gz", "yanked": self.yanked},
            {"filename": "some_name-1.0.1-py3-none-any.whl", "yanked": "another release"},
        ]
        return {"files": files, "project-status": {"status": self.status}}


FOUND = {"id": "GHSA-x", "aliases": ["CVE-1"], "fixed_in": ["1.1"], "withdrawn": None}
NO_JSON = urllib.error.HTTPError("https://index.test", 404, "Not Found", Message(), None)


@pytest.fixture
def constraints(tmp_path):
    file = tmp_path / "constraints.txt"
    file.write_text("# ours\nsome.name==1.0\n")
    return file


@pytest.mark.parametrize(
    ("pypi", "code", "told"),
    [
        (Pypi(), 0, "audited 1 pinned releases, 1 for vulnerabilities"),
        (Pypi(vulnerabilities=[FOUND]), 1, "some-name==1.0 is vulnerable: GHSA-x, CVE-1; fixed in 1.1"),
        (Pypi(vulnerabilities=[{**FOUND, "withdrawn": "2026-01-01"}]), 0, "audited 1"),
        (Pypi(yanked="broken"), 1, "some-name==1.0 is withdrawn by its makers: broken"),
        (Pypi(status="quarantined"), 1, "some-name==1.0 its project is in quarantine"),
        (Pypi(error=OSError("no network")), 2, "could not be asked about: vulnerabilities: OSError('no network')"),
        (Pypi(error=NO_JSON), 2, "vulnerabilities of 1 releases are unknown"),
    ],
)
def test_what_an_audit_says(pypi, code, told, constraints, capsys):
    assert main(["--constraints", str(constraints)], pypi) == code
    assert told in capsys.readouterr().out


def test_an_index_without_vulnerabilities_is_accepted_when_asked_and_said(constraints, capsys):
    assert main(["--constraints", str(constraints), "--index-only"], Pypi(error=NO_JSON)) == 0
    assert "1 releases are unknown to" in capsys.readouterr().out
    assert main(["--constraints", str(constraints), "--index-only"], Pypi(error=NO_JSON, yanked=True)) == 1
    assert main(["--constraints", str(constraints), "--index-only"], Pypi(error=OSError("no network"))) == 2


def test_an_index_that_cannot_be_reached_is_no_clean_audit():
    def refuse(_url: str, _accept: str) -> object:
        raise OSError("no network")

    audited = audit("some-name", "1.0", refuse)
    assert len(audited.unknown) == 2
    assert not audited.problems


def test_every_line_of_our_constraints_is_a_pin():
    assert len(pins_of((ROOT / "constraints.txt").read_text(encoding="utf-8"))) > 50
    with pytest.raises(ValueError, match="line 1 pins nothing"):
        pins_of("numpy>=1\n")
