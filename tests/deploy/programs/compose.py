"""Run by the python of build/deploy: reads a file by the Compose Specification, and prints its services as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from compose_spec import PyCompose


def main() -> None:
    """Read the file that is named; what the specification does not know ends the program with an error."""
    read = PyCompose.from_yaml(Path(sys.argv[1]).read_text(encoding="utf-8"))
    read.validate()
    read.to_spec()
    json.dump(read.to_dict(), sys.stdout)


main()
