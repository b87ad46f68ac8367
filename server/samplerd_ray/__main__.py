"""``samplerd-ray`` and ``python -m samplerd_ray``."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

from samplerd_ray.command_line import build_parser, check

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status."""
    parser = build_parser()
    args = parser.parse_args(argv)
    check(parser, args)
    if find_spec("ray") is None:
        sys.stderr.write("samplerd-ray: it needs pip install 'samplerd[ray]'\n")
        return 2
    from samplerd_ray import commands  # noqa: PLC0415  # it imports ray, which --help does not wait for

    try:
        return commands.COMMANDS[args.command](args)
    except (commands.RayError, ValueError, OSError) as error:
        sys.stderr.write(f"samplerd-ray: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
