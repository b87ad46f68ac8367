"""The flags of samplerd-ray."""

from __future__ import annotations

import argparse

from samplerd import __version__
from samplerd_client.command_line.parser import LineParser, leaves_of

__all__ = ["OWNED", "build_parser", "check"]

OWNED = ("--listen", "--metrics-listen", "--log-format", "--distribution-ttl", "--workers", "--config")
"""Flags of samplerd that a replica sets itself, or that would take them over."""

_LOCAL = "local"

_EPILOG = """\
examples:
  samplerd-ray up --replicas 4 --endpoints /etc/envoy/endpoints.yaml
  samplerd-ray up --autoscale 2:8 --address auto --cpus 2 -- --max-batch-rows 512
  samplerd-ray status
  samplerd-ray upload words.json
  samplerd-ray down

exit status: 0 success; 1 it could not be done; 2 wrong usage; 130 interrupted.
"""


def _at_least_one(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return value


def _amount(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 4096:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 4096")
    return value


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to 86400")
    return value


def _range(text: str) -> tuple[int, int]:
    least, colon, most = text.partition(":")
    if not colon or not least.isdecimal() or not most.isdecimal() or not 1 <= int(least) <= int(most):
        raise argparse.ArgumentTypeError(f"{text!r} is not MIN:MAX with 1 <= MIN <= MAX, as in 2:8")
    return int(least), int(most)


def build_parser() -> LineParser:
    """Return the parser of the whole command line."""
    parser = LineParser(
        prog="samplerd-ray",
        usage="samplerd-ray COMMAND [flags]; samplerd-ray COMMAND --help lists the flags of a command",
        description="Run samplerds on a Ray cluster: place, watch, scale and replace them.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"samplerd-ray {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", prog="samplerd-ray")
    up = commands.add_parser(
        "up",
        usage="samplerd-ray up [flags] [-- flags of samplerd]",
        help="start replicas, and write their addresses to a file until it is stopped",
        description="Start replicas of samplerd on Ray and keep them running. Runs until SIGTERM or Ctrl-C, and then "
        "stops them.",
    )
    size = up.add_argument_group("how many").add_mutually_exclusive_group()
    size.add_argument("--replicas", type=_at_least_one, default=2, metavar="N", help="samplerds to keep running (2)")
    size.add_argument(
        "--autoscale",
        type=_range,
        metavar="MIN:MAX",
        help="keep at least MIN and at most MAX running, by the processor time that they take and the calls that wait",
    )
    pace = up.add_argument_group("how fast, with --autoscale")
    pace.add_argument(
        "--scale-up-after",
        type=_seconds,
        default=10.0,
        metavar="SECONDS",
        help="how long more must be wanted before more are started (10)",
    )
    pace.add_argument(
        "--scale-down-after",
        type=_seconds,
        default=120.0,
        metavar="SECONDS",
        help="how long fewer must be wanted before some are stopped (120)",
    )
    place = up.add_argument_group("where")
    place.add_argument("--cpus", type=_amount, default=1.0, metavar="X", help="CPUs that Ray keeps for a replica (1)")
    place.add_argument("--gpus", type=_amount, default=0.0, metavar="X", help="GPUs that Ray keeps for a replica (0)")
    place.add_argument(
        "--samplerd",
        metavar="FILE",
        help="program of the server on every node (default: the samplerd of Ray's own Python there)",
    )
    told = up.add_argument_group("who is told")
    told.add_argument(
        "--endpoints", metavar="FILE", help="write the addresses for Envoy, as in deploy/envoy/endpoints.yaml"
    )
    told.add_argument(
        "--servers", metavar="FILE", help="write the addresses as one line, as samplerctl --server takes it"
    )
    told.add_argument(
        "--targets",
        metavar="FILE",
        help="write the addresses of the metrics for Prometheus (file_sd_configs); the metrics are then served on each "
        "node's address, in place of loopback",
    )
    up.add_argument("flags", nargs="*", metavar="FLAG", help="flags of samplerd for every replica, after --")
    status = commands.add_parser(
        "status",
        usage="samplerd-ray status [flags]",
        help="list the replicas: address, node, process",
        description="List the replicas that serve, and the distributions that are kept.",
    )
    status.add_argument("--json", action="store_true", help="print one JSON object")
    upload = commands.add_parser(
        "upload",
        usage="samplerd-ray upload REQUEST_FILE ... [flags]",
        help="keep distributions on every replica, those that start later too",
        description="Keep distributions on every replica, those that start later too. Returns once every replica that "
        "serves holds them.",
    )
    upload.add_argument(
        "files", nargs="+", metavar="REQUEST_FILE", help="a CreateDistributionRequest with a name: JSON, or binary"
    )
    forget = commands.add_parser(
        "forget",
        usage="samplerd-ray forget NAME ... [flags]",
        help="delete distributions of samplerd-ray upload on every replica",
        description="Delete distributions that samplerd-ray upload keeps, on every replica.",
    )
    forget.add_argument("names", nargs="+", metavar="NAME", help="name of a distribution")
    down = commands.add_parser(
        "down",
        usage="samplerd-ray down [flags]",
        help="stop all replicas",
        description="Stop all replicas, and with them samplerd-ray up.",
    )
    for own in (up, status, upload, forget, down):
        own.add_argument(
            "--address",
            default=_LOCAL if own is up else "auto",
            metavar="ADDRESS",
            help="Ray cluster: auto, the one of this node; host:port; or local, which starts one for as long as the "
            "command runs (local)"
            if own is up
            else "Ray cluster: auto, the one of this node; or host:port (auto)",
        )
    leaves = [own for _, own in leaves_of(parser)]
    for own in (parser, *leaves):
        own.relatives = tuple(leaves)
    return parser


def check(parser: LineParser, args: argparse.Namespace) -> None:
    """Refuse flags of samplerd that a replica sets itself, and a new cluster for a command that looks for replicas."""
    if args.address == _LOCAL and args.command != "up":
        parser.error("--address: local is for samplerd-ray up alone; auto finds the cluster that it started")
    for flag in getattr(args, "flags", ()):
        name = flag.partition("=")[0]
        if name in OWNED:
            parser.error(f"{name} is set by samplerd-ray for every replica")
