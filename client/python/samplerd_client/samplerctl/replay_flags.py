"""The flags of ``samplerctl replay``."""

from __future__ import annotations

from typing import Any

from samplerd_client.samplerctl.flag_values import positive

__all__ = ["add_replay"]


def add_replay(commands: Any) -> None:
    """Add the command to the parser's commands."""
    replay = commands.add_parser(
        "replay",
        usage="samplerctl replay FILE [REPLY_FILE] [flags]",
        help="draw a saved request again, without a server, and compare every draw with its reply",
        description="Draw again what a server drew, from the request, the seed in the reply and the float64 reference; "
        "no server is asked. Prints for each draw the counter of its random number, the number itself, the interval of "
        "cumulative probability that holds it, the id, and whether the reply has the same id. Messages are JSON, as "
        "grpcurl, buf and curl write it, or binary; several in JSON are matched by id, and chunks are joined. Fails "
        "(status 4) when a draw, a row error or an output differs. The times in a reply are not compared.",
    )
    replay.add_argument(
        "request",
        metavar="REQUEST_FILE",
        help="file with the SampleRequest, or, without REPLY_FILE, one that samplerctl sample --save wrote; - = "
        "standard input",
    )
    replay.add_argument(
        "reply", nargs="?", metavar="REPLY_FILE", help="file with its SampleResponse; - = standard input"
    )
    replay.add_argument(
        "--upload",
        metavar="FILE",
        help="the CreateDistributionRequest that uploaded the rows, for a request that names a distribution",
    )
    replay.add_argument(
        "--draft", action="store_true", help="the files hold a VerifyDraftRequest and its VerifyDraftResponse"
    )
    replay.add_argument(
        "--show",
        type=positive,
        default=20,
        metavar="N",
        help="show at most N rows, draws and kept ids in the tables, and all draws that differ (20)",
    )
    replay.add_argument("--json", action="store_true", help="print one JSON object for each row, with all its draws")
