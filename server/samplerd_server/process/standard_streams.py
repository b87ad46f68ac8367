"""Standard input, output and error that are always open, so that no socket is taken for one of them.

Whoever starts a server may have closed them. The next files that are opened then get their numbers, and libraries
abort: uvloop closes no such number, and Envoy's application reads its standard input to learn of its supervisor's end.
"""

from __future__ import annotations

import os
import sys

__all__ = ["open_standard_streams"]


def open_standard_streams() -> None:
    """Open /dev/null in the place of each standard stream that is closed."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the least number that is free, and so this one
            os.set_inheritable(number, True)  # noqa: FBT003  # its only parameter
    # Python has none for a stream that was closed when it started.
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  # lives as long as the process
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  # as above
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  # as above
