"""The flags of samplerctl, and what they mean as arguments of `sample`."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, Any, cast

from samplerd import __version__
from samplerd_client.samplerctl import environment
from samplerd_client.samplerctl.inputs import integers
from samplerd_client.samplerctl.sampling_flags import add_sampling_flags, sampling_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from samplerd_client.options import SampleOptions

__all__ = ["build_parser", "join_negative_values", "sample_options", "sampling_options"]

_EPILOG = """\
examples:
  samplerctl sample --logits 1,2,0.5,1.5 --temperature 0.7 -n 100000
  samplerctl sample --probabilities 0.1,0.2,0.3,0.4 -n 5 --seed 7 --output jsonl
  samplerctl sample --npy rows.npy --top-p 0.9 --output npy -o samples.npy
  printf '1 2 0.5 1.5\\n' | samplerctl sample --logits - --temperature 0
  samplerctl distribution create --npy weights.npy --weights --name words && samplerctl sample --distribution words -n 9
  samplerctl verify 127.0.0.1:50051
  samplerctl bench --vocab-size 32768 --rows 8 --concurrency 16 --duration 10

exit status: 0 done; 1 the server refused, or a row failed; 2 wrong usage; 3 the server was not reached, or not in time;
4 an audit failed; 130 interrupted.
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="samplerctl",
        description="Draw from logits on a samplerd server, look at the server, measure it, audit it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"samplerctl {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_sample(commands)
    _add_distribution(commands)
    info = commands.add_parser(
        "info", usage="samplerctl info [options]", help="say what the server is and where its limits are"
    )
    _add_connection(info)
    info.add_argument("--json", action="store_true", help="as one JSON object")
    _add_bench(commands)
    _add_verify(commands)
    return parser


def _add_sample(commands: Any) -> None:
    sample = commands.add_parser(
        "sample",
        usage="samplerctl sample (--logits X,.. | --probabilities W,.. | --npy FILE | --distribution NAME) [options]",
        help="draw, and show how often each id came up beside how often it should have",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    source = sample.add_argument_group("what to draw from (one of)").add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--logits", metavar="X,..", help="numbers; rows between semicolons; - = standard input (text or .npy)"
    )
    source.add_argument("--probabilities", metavar="W,..", help="weights instead of logits; the same forms")
    source.add_argument("--npy", metavar="FILE", help="an array [V] or [B, V] of logits; - = standard input")
    source.add_argument("--distribution", metavar="NAME", help="a distribution uploaded before")
    draw = sample.add_argument_group("how to draw")
    draw.add_argument("-n", "--num-samples", type=int, default=1, metavar="N", help="samples from each row (default 1)")
    draw.add_argument("--without-replacement", action="store_true", help="draw each id at most once from a row")
    draw.add_argument("--seed", type=int, help="key of the noise; the server draws one when absent")
    draw.add_argument("--row-seeds", type=integers, metavar="S,..", help="a key for each row")
    draw.add_argument("--draw-offset", type=int, default=0, metavar="N", help="index of the first draw")
    draw.add_argument("--weights", action="store_true", help="the numbers of --npy are weights, not logits")
    draw.add_argument("--dtype", choices=("f32", "f16", "bf16", "f64"), help="convert the rows before sending")
    draw.add_argument("--priority", type=int, default=0, help="who goes first, -100 to 100")
    add_sampling_flags(sample)
    output = sample.add_argument_group("what to show")
    output.add_argument("--output", choices=("table", "jsonl", "npy"), default="table", help="(default table)")
    output.add_argument("-o", "--output-file", metavar="FILE", help="write there instead of to standard output")
    output.add_argument("--show", type=int, default=20, metavar="N", help="ids, and rows, in the table (default 20)")
    output.add_argument("--logprobs", type=_kinds, default=(), metavar="KIND,..", help="raw, scaled, processed")
    output.add_argument("--top-n", type=int, default=0, metavar="N", help="with --logprobs: also the N most likely ids")
    output.add_argument("--rank", action="store_true", help="the rank of each sample")
    output.add_argument("--entropy", type=_kinds, default=(), metavar="KIND,..", help="entropies, in nats")
    output.add_argument("--kept", action="store_true", help="how many categories the filters kept, and their mass")
    _add_connection(sample)


def _add_distribution(commands: Any) -> None:
    distribution = commands.add_parser(
        "distribution",
        usage="samplerctl distribution (create | list | show | delete) [options]",
        help="upload rows once, to be drawn from with sample --distribution; list, describe and free them",
    )
    actions = distribution.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = actions.add_parser("create", help="upload rows; sampling parameters are baked in")
    source = create.add_argument_group("the rows (one of)").add_mutually_exclusive_group(required=True)
    source.add_argument("--logits", metavar="X,..", help="as for sample")
    source.add_argument("--probabilities", metavar="W,..", help="as for sample")
    source.add_argument("--npy", metavar="FILE", help="as for sample")
    create.add_argument("--name", default="", help="the server chooses one when absent")
    create.add_argument("--ttl", type=_seconds, metavar="S", help="free it when unused for so many seconds")
    create.add_argument("--weights", action="store_true", help="the numbers of --npy are weights, not logits")
    create.add_argument("--dtype", choices=("f32", "f16", "bf16", "f64"), help="convert the rows before sending")
    add_sampling_flags(create)
    listing = actions.add_parser("list", help="all, in order of name")
    show = actions.add_parser("show", help="one")
    delete = actions.add_parser("delete", help="free one")
    for action in (show, delete):
        action.add_argument("name", metavar="NAME")
    for action in (create, listing, show):
        action.add_argument("--json", action="store_true", help="one JSON object a line")
    for action in (create, listing, show, delete):
        _add_connection(action)


def _add_bench(commands: Any) -> None:
    bench = commands.add_parser(
        "bench",
        usage="samplerctl bench [options]",
        help="measure the server from here, closed loop: each worker waits for its reply",
    )
    load = bench.add_argument_group("load")
    load.add_argument("--vocab-size", type=_positive, default=32_768, metavar="V", help="numbers in a row (32768)")
    load.add_argument("--rows", type=_positive, default=1, metavar="R", help="rows in a request (1)")
    load.add_argument("--concurrency", type=_positive, default=16, metavar="C", help="requests in flight (16)")
    load.add_argument("--duration", type=_seconds, default=10.0, metavar="S", help="seconds to measure (10)")
    load.add_argument("--warm-up", type=_seconds, default=1.0, metavar="S", help="seconds before that (1)")
    load.add_argument("-n", "--num-samples", type=_positive, default=1, metavar="N", help="samples from each row (1)")
    load.add_argument("--dtype", choices=("f32", "f16", "bf16", "f64"), default="f32", help="of the rows (f32)")
    mode = load.add_mutually_exclusive_group()
    mode.add_argument("--stream", action="store_true", help="one stream instead of a call for each request")
    mode.add_argument("--coalesce", action="store_true", help="let concurrent requests of one row travel together")
    load.add_argument(
        "--shared-memory",
        metavar="PREFIX",
        help="put the rows into shared memory; the server of this host was started with --shared-memory-prefix PREFIX",
    )
    load.add_argument("--json", action="store_true", help="the outcome as one JSON object")
    add_sampling_flags(bench)
    _add_connection(bench)


def _add_verify(commands: Any) -> None:
    verify = commands.add_parser(
        "verify",
        usage="samplerctl verify [HOST:PORT] [options]",
        help="audit a live server: replay its draws, shuffle batch-mates, test its laws",
        description="Audits a live server from outside. Fails (status 4) when a draw does not follow from its row and "
        "seed, when company or position changes a draw, or when the draws do not fit their distribution.",
    )
    verify.add_argument("host", nargs="?", metavar="HOST:PORT", help="the server (default: as --server)")
    verify.add_argument("--draws", type=_positive, default=200_000, metavar="N", help="draws of each test (200000)")
    verify.add_argument("--vocab-size", type=_positive, default=1000, metavar="V", help="of the replayed rows (1000)")
    verify.add_argument("--alpha", type=float, default=1e-6, help="a p-value below it is a failure (1e-6)")
    verify.add_argument("--seed", type=int, default=1, help="of the audit itself (1)")
    _add_connection(verify)


def _add_connection(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("where")
    group.add_argument(
        "--server",
        default=environment.default_server(),
        metavar="TARGET",
        help="host:port or unix:/path (SAMPLERD_SERVER; default %(default)s)",
    )
    group.add_argument("--timeout", type=_seconds, default=30.0, metavar="S", help="seconds for a call (default 30)")
    group.add_argument("--tls", action="store_true", help="encrypt; a token is taken from SAMPLERD_TOKEN")
    group.add_argument("--tls-ca", metavar="FILE", help="PEM of the authorities that may vouch for the server")
    group.add_argument("--tls-cert", metavar="FILE", help="PEM of this client's certificate")
    group.add_argument("--tls-key", metavar="FILE", help="PEM of its key")
    group.add_argument("--tls-server-name", metavar="NAME", help="the name in the server's certificate")


def sample_options(args: argparse.Namespace) -> SampleOptions:
    """Return all keywords of `sample` but the rows."""
    names = (
        *("num_samples", "seed", "row_seeds", "draw_offset", "dtype", "priority", "distribution"),
        *("logprobs", "top_n", "rank", "entropy", "kept"),
    )
    options = cast("SampleOptions", {name: getattr(args, name) for name in names})
    options["replacement"] = not args.without_replacement
    options["probabilities"] = args.probabilities is not None or args.weights
    options.update(sampling_options(args))
    return options


def join_negative_values(argv: Sequence[str]) -> list[str]:
    """Return the arguments with ``--flag -1,2`` made ``--flag=-1,2``: argparse takes such a value for a flag."""
    joined: list[str] = []
    for argument in argv:
        previous = joined[-1] if joined else ""
        if re.match(r"-(\d|\.\d|inf)", argument) and re.fullmatch(r"--[a-z][a-z-]*", previous):
            joined[-1] = f"{previous}={argument}"
        else:
            joined.append(argument)
    return joined


def _kinds(text: str) -> tuple[str, ...]:
    kinds = tuple(text.replace(",", " ").split())
    for kind in kinds:
        if kind not in {"raw", "scaled", "processed"}:
            raise argparse.ArgumentTypeError(f"{kind!r} is none of raw, scaled, processed")
    return kinds


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0.0 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds")
    return value
