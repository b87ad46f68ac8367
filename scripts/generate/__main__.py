"""Write every generated file, or prove that they are fresh: ``python -m scripts.generate [--check]``."""

from __future__ import annotations

import argparse
import sys

from scripts.generate import FILES, ROOT


def main() -> int:
    """Return the exit status: 1 when a file was to be fresh and is not."""
    parser = argparse.ArgumentParser(prog="python -m scripts.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is not fresh")
    is_check = parser.parse_args().check
    stale = []
    for name, text_of in FILES.items():
        path = ROOT / name
        text = text_of()
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not is_check:
            path.write_text(text, encoding="utf-8")
    for name in stale:
        print(f"{name} is stale: run make generate" if is_check else f"wrote {name}")
    if not stale:
        print(f"{len(FILES)} generated files are fresh")
    return 1 if is_check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
