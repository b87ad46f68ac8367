"""The flags of samplerctl, and what they mean as arguments of `sample`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from samplerd import __version__
from samplerd_client.command_line.completion import SHELLS
from samplerd_client.command_line.parser import LineParser, leaves_of
from samplerd_client.samplerctl.connection_flags import QUESTION_S, add_connection_flags
from samplerd_client.samplerctl.flag_values import integers, kinds, positive, seconds, seed, targets
from samplerd_client.samplerctl.replay_flags import add_replay
from samplerd_client.samplerctl.sampling_flags import add_sampling_flags
from samplerd_client.samplerctl.top_flags import add_top

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["build_parser", "join_negative_values"]

_EPILOG = """\
examples:
  samplerctl sample --logits 1,2,0.5,1.5 --temperature 0.7 -n 100000
  samplerctl sample --probabilities 0.1,0.2,0.3,0.4 -n 5 --seed 7 --output jsonl
  samplerctl sample --npy rows.npy --top-p 0.9 --output npy -o samples.npy
  printf '1 2 0.5 1.5\\n' | samplerctl sample --logits - --temperature 0
  samplerctl distribution create --npy weights.npy --weights --name words && samplerctl sample --distribution words -n 9
  samplerctl distribution draw words -n 1000000000 --output npy -o samples.npy
  samplerctl top 10.0.0.1:9464 10.0.0.2:9464
  samplerctl replay request.json reply.json
  samplerctl verify 127.0.0.1:50051
  samplerctl bench --vocab-size 32768 --rows 8 --concurrency 16 --duration 10

exit status: 0 success; 1 the server refused the request, or a row failed; 2 wrong usage; 3 the server could not be
reached, or not in time; 4 an audit or a replay failed; 130 interrupted.
"""


def build_parser() -> LineParser:
    """Return the parser of the whole command line."""
    parser = LineParser(
        prog="samplerctl",
        usage="samplerctl COMMAND [flags]; samplerctl COMMAND --help lists the flags of a command",
        description="Sample from logits on a samplerd server; inspect, measure and audit the server.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"samplerctl {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", prog="samplerctl")
    _add_sample(commands)
    _add_distribution(commands)
    info = commands.add_parser(
        "info", usage="samplerctl info [flags]", help="show the server's version, device, capabilities and limits"
    )
    add_connection_flags(info, QUESTION_S)
    info.add_argument("--json", action="store_true", help="print one JSON object")
    add_top(commands)
    _add_bench(commands)
    add_replay(commands)
    _add_verify(commands)
    completion = commands.add_parser(
        "completion",
        usage="samplerctl completion SHELL",
        help="print a script that completes commands, flags and values in bash, zsh or fish",
        description="Print a script for a shell. For bash: source <(samplerctl completion bash)",
    )
    completion.add_argument("shell", choices=SHELLS, metavar="SHELL", help=f"one of {', '.join(SHELLS)}")
    leaves = [own for _, own in leaves_of(parser)]
    for own in (parser, *leaves):
        own.relatives = tuple(leaves)
    return parser


def _add_sample(commands: Any) -> None:
    sample = commands.add_parser(
        "sample",
        usage="samplerctl sample (--logits X,.. | --probabilities W,.. | --npy FILE | --distribution NAME) [flags]",
        help="draw samples; show how often each id was drawn beside how often it should have been",
        description="Draw samples from rows of logits or weights.",
        epilog=_EPILOG,
    )
    source = sample.add_argument_group("what to draw from (one of)").add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--logits", metavar="X,..", help="logits; rows separated by semicolons; - = standard input (text, .npy or .npz)"
    )
    source.add_argument("--probabilities", metavar="W,..", help="weights in place of logits, in the same forms")
    source.add_argument(
        "--npy",
        metavar="FILE",
        help="file with an array [V] or [B, V] of logits: .npy, .npz with one array, or text such as CSV; - = standard "
        "input",
    )
    source.add_argument("--distribution", metavar="NAME", help="name of an uploaded distribution")
    guidance = sample.add_argument_group("what guides it (with --guidance-scale)").add_mutually_exclusive_group()
    guidance.add_argument("--guidance", metavar="X,..", help="second rows, written like --logits or --probabilities")
    guidance.add_argument("--guidance-npy", metavar="FILE", help="second rows, an array in the shape of the rows")
    draw = sample.add_argument_group("how to draw")
    draw.add_argument(
        "-n", "--num-samples", type=positive, default=1, metavar="N", help="samples from each row (default 1)"
    )
    draw.add_argument("--without-replacement", action="store_true", help="draw each id at most once from a row")
    draw.add_argument(
        "--seed",
        type=seed,
        metavar="N",
        help="seed of the random numbers, 0 to 2^64 - 1; the server draws one if absent",
    )
    draw.add_argument("--row-seeds", type=integers, metavar="N,..", help="a seed for each row, in place of --seed")
    draw.add_argument(
        "--draw-offset",
        type=seed,
        default=0,
        metavar="N",
        help="index of the first draw, to continue a seeded sequence (default 0)",
    )
    draw.add_argument("--weights", action="store_true", help="the numbers of --npy are weights, not logits")
    draw.add_argument(
        "--dtype", choices=("f32", "f16", "bf16", "f64"), help="convert the rows to this type before sending"
    )
    draw.add_argument(
        "--priority",
        type=int,
        default=0,
        metavar="N",
        help="requests of higher priority are served first, -100 to 100 (default 0)",
    )
    add_sampling_flags(sample)
    output = sample.add_argument_group("what to show")
    output.add_argument(
        "--output",
        choices=("table", "jsonl", "npy", "npz"),
        default="table",
        help="format of the output: a table for people; one JSON object per row; the samples as an int32 array; all "
        "that was asked for, as named arrays (default table)",
    )
    output.add_argument("-o", "--output-file", metavar="FILE", help="write to this file, not to standard output")
    output.add_argument(
        "--save", metavar="FILE", help="write request and reply to this file too, for samplerctl replay FILE"
    )
    output.add_argument("--show", type=positive, metavar="N", help="show at most N ids and N rows in the table (20)")
    output.add_argument(
        "--logprobs",
        type=kinds,
        default=(),
        metavar="KIND,..",
        help="return log-probabilities of these kinds: raw, scaled, processed",
    )
    output.add_argument(
        "--top-n", type=int, default=0, metavar="N", help="with --logprobs: also return the N most likely ids"
    )
    output.add_argument("--rank", action="store_true", help="return the rank of each sample")
    output.add_argument(
        "--entropy", type=kinds, default=(), metavar="KIND,..", help="return entropies of these kinds, in nats"
    )
    output.add_argument(
        "--kept", action="store_true", help="return how many categories the filters kept, and their probability"
    )
    output.add_argument(
        "--adaptive-state", action="store_true", help="return the state of adaptive-p after each sample"
    )
    add_connection_flags(sample)


def _add_distribution(commands: Any) -> None:
    distribution = commands.add_parser(
        "distribution",
        usage="samplerctl distribution (create | draw | list | show | delete) [flags]",
        help="upload rows once and draw from them by name; list, show and delete them",
    )
    actions = distribution.add_subparsers(
        dest="action", required=True, metavar="ACTION", prog="samplerctl distribution"
    )
    create = actions.add_parser(
        "create", help="upload rows, together with the sampling parameters of every draw from them"
    )
    source = create.add_argument_group("the rows (one of)").add_mutually_exclusive_group(required=True)
    source.add_argument("--logits", metavar="X,..", help="as for sample")
    source.add_argument("--probabilities", metavar="W,..", help="as for sample")
    source.add_argument("--npy", metavar="FILE", help="as for sample")
    create.add_argument(
        "--name", default="", metavar="NAME", help="name of the distribution; the server chooses one if absent"
    )
    create.add_argument(
        "--ttl", type=seconds, metavar="SECONDS", help="free the distribution once it was unused for this long"
    )
    create.add_argument("--weights", action="store_true", help="the numbers of --npy are weights, not logits")
    create.add_argument(
        "--dtype", choices=("f32", "f16", "bf16", "f64"), help="convert the rows to this type before sending"
    )
    add_sampling_flags(create)
    draw = actions.add_parser(
        "draw",
        help="draw any number of samples, written as they come; progress goes to standard error",
        description="Draw any number of samples from a distribution in bounded memory. Without --output npy each id is "
        "a line. The last line on standard error says with which seed.",
    )
    draw.add_argument(
        "-n", "--num-samples", type=positive, default=1, metavar="N", help="samples from each row (default 1)"
    )
    draw.add_argument(
        "--seed",
        type=seed,
        metavar="N",
        help="seed of the random numbers, 0 to 2^64 - 1; the server draws one if absent",
    )
    draw.add_argument(
        "--draw-offset",
        type=seed,
        default=0,
        metavar="N",
        help="index of the first draw, to continue a seeded sequence (default 0)",
    )
    draw.add_argument(
        "--output",
        choices=("ids", "npy"),
        default="ids",
        help="format of the output: ids in decimal, one a line, row by row; an int32 array [rows, N] (default ids)",
    )
    draw.add_argument("-o", "--output-file", metavar="FILE", help="write to this file, not to standard output")
    add_sampling_flags(draw)
    listing = actions.add_parser("list", help="list all distributions, in order of name")
    show = actions.add_parser("show", help="show one distribution")
    delete = actions.add_parser("delete", help="delete one distribution")
    for action in (draw, show, delete):
        action.add_argument("name", metavar="NAME")
    for action in (create, listing, show):
        action.add_argument("--json", action="store_true", help="print one JSON object per line")
    for action in (create, draw):
        add_connection_flags(action)
    for action in (listing, show, delete):
        add_connection_flags(action, QUESTION_S)


def _add_bench(commands: Any) -> None:
    bench = commands.add_parser(
        "bench",
        usage="samplerctl bench [flags]",
        help="measure the server from this client; each worker waits for a reply before its next request",
    )
    load = bench.add_argument_group("load")
    load.add_argument("--vocab-size", type=positive, default=32_768, metavar="V", help="numbers in a row (32768)")
    load.add_argument("--rows", type=positive, default=1, metavar="R", help="rows in a request (1)")
    load.add_argument("--concurrency", type=positive, default=16, metavar="C", help="requests in flight at a time (16)")
    load.add_argument("--duration", type=seconds, default=10.0, metavar="SECONDS", help="how long to measure (10)")
    load.add_argument("--warm-up", type=seconds, default=1.0, metavar="SECONDS", help="load before measuring (1)")
    load.add_argument("-n", "--num-samples", type=positive, default=1, metavar="N", help="samples from each row (1)")
    load.add_argument(
        "--dtype", choices=("f32", "f16", "bf16", "f64"), default="f32", help="type of the numbers in the rows (f32)"
    )
    mode = load.add_mutually_exclusive_group()
    mode.add_argument("--stream", action="store_true", help="send the requests over one stream, not as a call each")
    mode.add_argument("--coalesce", action="store_true", help="send concurrent requests of one row together")
    load.add_argument(
        "--shared-memory",
        metavar="PREFIX",
        help="put the rows into shared memory; for a server on this host, started with --shared-memory-prefix PREFIX",
    )
    load.add_argument("--json", action="store_true", help="print the results as one JSON object")
    add_sampling_flags(bench)
    add_connection_flags(bench)


def _add_verify(commands: Any) -> None:
    verify = commands.add_parser(
        "verify",
        usage="samplerctl verify [HOST[:PORT]] [flags]",
        help="audit a live server: replay its draws, move rows between batches, test its distributions",
        description="Audit a live server from outside. Fails (status 4) when a draw does not follow from its row and "
        "seed, when other rows in its batch change a draw, or when draws do not fit their distribution.",
    )
    verify.add_argument(
        "host", nargs="?", metavar="HOST[:PORT]", type=targets, help="the server to audit (default: that of --server)"
    )
    verify.add_argument(
        "--draws", type=positive, default=200_000, metavar="N", help="draws of each statistical test (200000)"
    )
    verify.add_argument(
        "--vocab-size", type=positive, default=1000, metavar="V", help="numbers in each replayed row (1000)"
    )
    verify.add_argument(
        "--alpha", type=float, default=1e-6, metavar="P", help="an audit with a p-value below this fails (1e-6)"
    )
    verify.add_argument("--seed", type=seed, default=1, metavar="N", help="seed of the audit's own random numbers (1)")
    add_connection_flags(verify)


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
