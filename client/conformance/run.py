"""`python -m client.conformance.run`: run every language's runner against live servers of both transports.

It builds nothing: `make -C client/LANGUAGE tools build` does. The table in client/README.md is made of what it finds.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from client.conformance.fleet import Fleet
from client.conformance.servers import TOKEN, NamesOnSocket, RefusingServer, Samplerd, certificate, samplerd
from client.conformance.table import FEATURES, LANGUAGES, Outcome, Outcomes, write_table

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = ROOT / "client"
README = CLIENTS / "README.md"
TRANSPORTS = ("grpcio", "envoy")
_RUN_S = 300.0
_MAKES_OWN = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}
"""What a make that runs this would tell the ones that this runs."""
_NO_PROXY_THERE = dict.fromkeys(("http_proxy", "https_proxy", "grpc_proxy", "HTTPS_PROXY"), "http://127.0.0.1:9") | {
    "no_proxy": "",
    "no_grpc_proxy": "",
}
"""A proxy that is not there: no client may use it for a server on its own machine."""
_FREE_S = 60.0
_LEFT = 'samplerd_requests_total{code="CANCELLED",rpc="SampleDistribution"}'


class Servers:
    """All that a runner talks to, of one transport."""

    def __init__(self, transport: str, stack: ExitStack, folder: Path) -> None:
        ca, flags = certificate(folder)
        self.transport = transport
        unix = f"unix:{folder / 'samplerd.sock'}"
        self.plain: Samplerd = stack.enter_context(
            samplerd("--transport", transport, "--listen", unix, "--chunk-samples", "1000")
        )
        self.socket = stack.enter_context(NamesOnSocket(folder, unix))
        self._tls: Samplerd = stack.enter_context(samplerd("--transport", transport, *flags))
        self._ca = ca

    def flags(self, refusing: RefusingServer, fleet: Fleet) -> list[str]:
        """Give what a runner is started with."""
        vectors = str(CLIENTS / "conformance" / "vectors.json")
        flags = ["--target", self.plain.target, "--vectors", vectors, "--retry-target", refusing.target]
        flags += ["--servers", ",".join([self.plain.target, *fleet.targets]), "--unix-target", self.socket.target]
        return [*flags, "--tls-target", self._tls.target, "--ca", str(self._ca), "--token", TOKEN]


def run_language(language: str, servers: Servers) -> Outcomes:
    """Run a language's runner and its example."""
    freed_before = servers.plain.total("samplerd_cancelled_total")
    left_before = servers.plain.total(_LEFT)
    with RefusingServer() as refusing, Fleet() as fleet:
        status, printed, told = _make(language, "conformance", servers.flags(refusing, fleet))
        outcomes = {line.split("\t")[0]: Outcome(*_pair(line)) for line in printed.splitlines() if "\t" in line}
        for feature in FEATURES[:-1]:
            outcomes.setdefault(feature, Outcome("fail", "the runner did not say"))
        _judge(outcomes, "retry", refusing.complaint())
        _judge(outcomes, "metadata", refusing.missing_metadata())
        _judge(outcomes, "budget", refusing.overspent())
        _judge(outcomes, "connections", refusing.missing_connections())
        _judge(outcomes, "servers", fleet.complaint())
        _judge(outcomes, "unix", servers.socket.complaint())
        _judge(outcomes, "chunks", refusing.large.complaint())
    _judge(outcomes, "cancel", _was_freed(servers.plain, freed_before))
    if status != 0 and all(outcome.state != "fail" for outcome in outcomes.values()):
        outcomes["calls"] = Outcome("fail", f"the runner ended with {status}")
    if outcomes["chunks"].state == "pass":  # otherwise the draw may never have begun
        _judge(outcomes, "chunks", _was_left(servers.plain, left_before))
    status, printed, more = _make(language, "example", ["--target", servers.plain.target])
    told += more
    outcomes["example"] = (
        Outcome("pass", "") if status == 0 and printed.strip() else Outcome("fail", f"ended with {status}")
    )
    if any(outcome.state == "fail" for outcome in outcomes.values()):
        sys.stderr.write(told)
    return outcomes


def _pair(line: str) -> tuple[str, str]:
    _, state, *detail = line.split("\t")
    return state, " ".join(detail)


def _judge(outcomes: Outcomes, feature: str, complaint: str) -> None:
    """Fail what the runner took for good and the servers did not."""
    if complaint and outcomes[feature].state == "pass":
        outcomes[feature] = Outcome("fail", complaint)


def _was_freed(server: Samplerd, before: float) -> str:
    """Wait for the server to count the cancelled work; says what is wrong if it does not."""
    give_up = time.monotonic() + _FREE_S
    while server.total("samplerd_cancelled_total") <= before:
        if time.monotonic() > give_up:
            return "the server did not notice that its caller had gone"
        time.sleep(0.1)
    return ""


def _was_left(server: Samplerd, before: float) -> str:
    """Wait for the end of the large draw that was stopped early; says what is wrong if anything of it is left."""
    give_up = time.monotonic() + _FREE_S
    while server.total(_LEFT) <= before or server.total("samplerd_distribution_bytes"):
        if time.monotonic() > give_up:
            return "the server still holds the rows of the draw that was stopped"
        time.sleep(0.1)
    return ""


def _make(language: str, target: str, flags: Sequence[str]) -> tuple[int, str, str]:
    command = ["make", "--silent", "--no-print-directory", "-C", str(CLIENTS / language), target]
    try:
        run = subprocess.run(
            [*command, f"ARGS={shlex.join(flags)}"],
            capture_output=True,
            text=True,
            timeout=_RUN_S,
            check=False,
            env={name: value for name, value in os.environ.items() if name not in _MAKES_OWN} | _NO_PROXY_THERE,
        )
    except subprocess.TimeoutExpired:
        return 124, "", f"{language}: make {target} took more than {_RUN_S:g} s\n"
    return run.returncode, run.stdout, run.stderr


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Run every client's conformance runner over both transports.")
    parser.add_argument("languages", nargs="*", help=f"of {', '.join(LANGUAGES)} (default: all)")
    parser.add_argument("--transport", action="append", choices=TRANSPORTS, help="default: both")
    parser.add_argument("--write", action="store_true", help="write the table of client/README.md")
    parser.add_argument("--output", type=Path, help="write the outcomes as JSON")
    args = parser.parse_args()
    built = [language for language in LANGUAGES if (CLIENTS / language / "Makefile").exists()]
    found: dict[str, dict[str, Outcomes]] = {}
    for transport in args.transport or TRANSPORTS:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="samplerd-")))
            servers = Servers(transport, stack, folder)
            for language in args.languages or built:
                outcomes = run_language(language, servers)
                found.setdefault(language, {})[transport] = outcomes
                _tell(language, transport, outcomes)
    if args.output:
        args.output.write_text(json.dumps(found, indent=1) + "\n")
    has_failed = any(
        o.state == "fail" for own in found.values() for outcomes in own.values() for o in outcomes.values()
    )
    if args.languages or args.transport:
        return int(has_failed)
    if args.write:
        write_table(README, found)
    elif write_table(README, found, check=True):
        sys.stderr.write("the table of client/README.md is not what was found: run make client-table\n")
        return 1
    return int(has_failed)


def _tell(language: str, transport: str, outcomes: Outcomes) -> None:
    states = [outcome.state for outcome in outcomes.values()]
    sys.stdout.write(f"{language:8} over {transport:7} {states.count('pass')} of {len(states)} features pass\n")
    for feature, outcome in outcomes.items():
        if outcome.state != "pass":
            sys.stdout.write(f"  {feature}: {outcome.state}: {outcome.detail}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
