"""Holds every pinned dependency against PyPI: known vulnerabilities, withdrawn releases, and projects in quarantine.

Prints what is wrong and ends with 1. What could not be asked is told, and ends with 2: an audit that saw nothing is not
a clean one. PyPI's JSON API has the vulnerabilities, and a mirror may lack it: `--index-only` accepts that and says
so, and withdrawn releases and projects in quarantine are still found.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pip._internal.models.index import PyPI  # pip knows where it is

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Audited", "audit", "main", "pins_of"]

ROOT = Path(__file__).resolve().parents[1]
_SIMPLE = "application/vnd.pypi.simple.v1+json"
_TIMEOUT_S = 30
_AT_ONCE = 4
_PIN = re.compile(r"([A-Za-z0-9._-]+)==([^\s;#]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """What is known of one pinned release."""

    pin: str
    problems: tuple[str, ...] = ()
    """Each a sentence."""
    unknown: tuple[str, ...] = ()
    """What could not be asked, and why."""
    lacks_json: bool = False
    """Whether PyPI's JSON API does not know the release, and so its vulnerabilities."""


def pins_of(text: str) -> dict[str, str]:
    """Read a file of constraints: the version of each name.

    Raises:
        ValueError: a line pins nothing.

    """
    pins = {}
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.partition("#")[0].strip()
        if not bare:
            continue
        pin = _PIN.match(bare)
        if pin is None:
            raise ValueError(f"line {number} pins nothing: {line}")
        pins[re.sub(r"[-_.]+", "-", pin[1]).lower()] = pin[2]
    return pins


def fetch(url: str, accept: str) -> Any:
    """Get JSON.

    Raises:
        OSError: the server cannot be reached, or refuses; `urllib.error.HTTPError` has its status.
        ValueError: it answers with something else.

    """
    request = urllib.request.Request(url, headers={"accept": accept})  # noqa: S310  # always https
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as reply:  # noqa: S310
        return json.load(reply)


def audit(name: str, version: str, get: Callable[[str, str], Any] = fetch) -> Audited:
    """Ask PyPI about one release."""
    problems: list[str] = []
    unknown: list[str] = []
    lacks_json = False
    try:
        release = get(f"{PyPI.pypi_url}/{name}/{version}/json", "application/json")
        problems += [_told(found) for found in release["vulnerabilities"] if not found.get("withdrawn")]
    except urllib.error.HTTPError as error:
        lacks_json = error.code == 404  # of HTTP: there is no such page
        if not lacks_json:
            unknown.append(f"vulnerabilities: {error}")
    except (OSError, ValueError, KeyError) as error:
        unknown.append(f"vulnerabilities: {error!r}")
    try:
        project = get(f"{PyPI.simple_url}/{name}/", _SIMPLE)
        problems += _of_project(name, version, project)
    except (OSError, ValueError, KeyError) as error:
        unknown.append(f"withdrawn releases: {error!r}")
    return Audited(pin=f"{name}=={version}", problems=tuple(problems), unknown=tuple(unknown), lacks_json=lacks_json)


def _told(found: dict[str, Any]) -> str:
    names = ", ".join((found["id"], *found.get("aliases", ())))
    fixed = ", ".join(found.get("fixed_in") or ["no release"])
    return f"is vulnerable: {names}; fixed in {fixed}"


def _of_project(name: str, version: str, project: dict[str, Any]) -> list[str]:
    status = project.get("project-status", {}).get("status", "active")
    problems = ["its project is in quarantine"] if status == "quarantined" else []
    stem = "[-_.]+".join(map(re.escape, name.split("-")))
    mark = re.compile(rf"{stem}-{re.escape(version)}(-|\.tar|\.zip)", re.IGNORECASE)
    reasons = [file.get("yanked") for file in project["files"] if mark.match(file["filename"])]
    if reasons and all(reasons):
        problems.append("is withdrawn by its makers" + (f": {reasons[0]}" if isinstance(reasons[0], str) else ""))
    return problems


def main(arguments: Sequence[str] | None = None, get: Callable[[str, str], Any] = fetch) -> int:
    """Audit; returns 0, 1 if something is wrong, or 2 if something could not be asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--constraints", type=Path, default=ROOT / "constraints.txt", metavar="FILE")
    parser.add_argument("--index-only", action="store_true", help="accept an index without PyPI's JSON API")
    options = parser.parse_args(arguments)
    pins = pins_of(options.constraints.read_text(encoding="utf-8"))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        audited = list(pool.map(lambda name: audit(name, pins[name], get), pins))
    for own in audited:
        for text in (*own.problems, *(f"could not be asked about: {why}" for why in own.unknown)):
            sys.stdout.write(f"{own.pin} {text}\n")
    without = [own.pin for own in audited if own.lacks_json]
    if without:
        sys.stdout.write(
            f"vulnerabilities of {len(without)} releases are unknown to {PyPI.netloc}: {', '.join(without)}\n"
        )
    sys.stdout.write(f"audited {len(audited)} pinned releases, {len(audited) - len(without)} for vulnerabilities\n")
    if any(own.problems for own in audited):
        return 1
    is_blind = any(own.unknown for own in audited) or (bool(without) and not options.index_only)
    return 2 if is_blind else 0


if __name__ == "__main__":
    sys.exit(main())
