"""The package.json at the root: npm installs from a git address only what lies at its root.

It is client/node/package.json with its paths moved, so that ``npm install git+https://...`` gives the same package.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_FOLDER = "client/node"
_KEPT = ("name", "version", "description", "license", "engines", "exports", "main", "types", "dependencies")


def package_json() -> str:
    """Give the text of the package.json at the root."""
    client = json.loads((Path(__file__).resolve().parents[2] / _FOLDER / "package.json").read_text(encoding="utf-8"))
    package = {key: _moved(client[key]) for key in _KEPT}
    package["files"] = [f"{_FOLDER}/{name}" for name in ("package.json", *client["files"])]
    package["scripts"] = {"prepare": f"cd {_FOLDER} && npm install --no-audit --no-fund --loglevel=error"}
    return json.dumps(package, indent=2) + "\n"


def _moved(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _moved(inner) for key, inner in value.items()}
    if isinstance(value, str) and value.startswith("./"):
        return f"./{_FOLDER}/{value[2:]}"
    return value
