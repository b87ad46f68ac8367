"""The flags of ``samplerctl top``."""

from __future__ import annotations

import argparse
from typing import Any

from samplerd_client.samplerctl.environment import DEFAULT_METRICS
from samplerd_client.samplerctl.flag_values import positive, seconds

__all__ = ["add_top", "interval", "metrics_address"]

_LEAST_S = 0.1


def metrics_address(text: str) -> str:
    """Return the ``host:port`` of a server's metrics.

    Raises:
        argparse.ArgumentTypeError: it is none.

    """
    host, _, port = text.rpartition(":")
    if not host or "/" in text or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise argparse.ArgumentTypeError(f"{text!r} is not host:port, as in {DEFAULT_METRICS}")
    return text


def interval(text: str) -> float:
    """Return the seconds between two looks.

    Raises:
        argparse.ArgumentTypeError: they are too few, or no duration.

    """
    value = seconds(text)
    if value < _LEAST_S:
        raise argparse.ArgumentTypeError(f"{text!r} is less than {_LEAST_S} s")
    return value


def add_top(commands: Any) -> None:
    """Add the command to the parser's commands."""
    top = commands.add_parser(
        "top",
        usage="samplerctl top [ADDRESS ...] [flags]",
        help="show what servers do now, a line each, until Ctrl-C",
        description="Show throughput, batches, waits and refusals of servers since the last look at their metrics. "
        "Each line is of one server, with all its workers.",
    )
    top.add_argument(
        "addresses",
        nargs="*",
        type=metrics_address,
        default=[DEFAULT_METRICS],
        metavar="ADDRESS",
        help=f"host:port of a server's metrics, its --metrics-listen (default {DEFAULT_METRICS})",
    )
    top.add_argument(
        "--interval",
        type=interval,
        default=1.0,
        metavar="SECONDS",
        help="time between two looks, at least 0.1 (default 1)",
    )
    top.add_argument("--count", type=positive, metavar="N", help="end after showing N times")
    top.add_argument("--json", action="store_true", help="print one JSON object for each server and look")
