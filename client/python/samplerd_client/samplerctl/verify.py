"""``samplerctl verify``: runs the audits against a live server, and prints a table of their results."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from samplerd_client.errors import (
    ConnectionLostError,
    DeadlineError,
    NotImplementedFieldError,
    SamplerdError,
    UnavailableError,
)
from samplerd_client.samplerctl import render
from samplerd_client.samplerctl.audits import AUDITS, Auditor
from samplerd_client.samplerctl.connection import client_of
from samplerd_client.samplerctl.drafts import DRAFTS
from samplerd_client.samplerctl.flag_values import InputError
from samplerd_client.samplerctl.laws import LAWS

if TYPE_CHECKING:
    import argparse

__all__ = ["FAILED", "run"]

FAILED = 4
"""The exit status when an audit failed."""
_MIN_DRAWS = 2000
"""A chi-square test needs some five expected draws of each of its cells; with fewer, cells are pooled until none is
left, and every server passes."""


async def run(args: argparse.Namespace) -> int:
    """Run every audit and print the table; `FAILED` when one failed."""
    if args.draws < _MIN_DRAWS:
        raise InputError(f"--draws {args.draws} is too few to tell a wrong law from chance: give {_MIN_DRAWS} or more")
    target = args.host or args.server
    rows, failures, skipped = [], 0, 0
    async with client_of(args, target=target) as client:
        info = await client.server_info()
        auditor = Auditor(
            client=client,
            info=info,
            draws=args.draws,
            vocab_size=args.vocab_size,
            alpha=args.alpha,
            seed=args.seed,
        )
        sys.stdout.write(f"{target}: samplerd {info.version}, {info.kernel} on {info.device}, {info.rng}\n\n")
        for name, audit in (*AUDITS, *LAWS, *DRAFTS):
            _progress(name)
            try:
                outcome = await audit(auditor)
            except NotImplementedFieldError as error:
                skipped += 1
                rows.append([name, "-", "-", "skipped", error.message])
            except (ConnectionLostError, DeadlineError, UnavailableError):
                raise
            except SamplerdError as error:
                failures += 1
                rows.append([name, "-", "-", "FAILED", error.message])
            else:
                failures += not outcome.is_ok
                p_value = "-" if outcome.p_value is None else render.p_value(outcome.p_value)
                verdict = "ok" if outcome.is_ok else "FAILED"
                rows.append([name, render.count(outcome.draws), p_value, verdict, outcome.detail])
    _progress("")
    sys.stdout.write(render.table(["audit", "draws", "p-value", "", ""], rows, "<>><<") + "\n\n")
    passed = len(rows) - failures - skipped
    sys.stdout.write(f"{passed} passed, {failures} failed, {skipped} skipped (not implemented by this server)\n")
    return FAILED if failures else 0


def _progress(name: str) -> None:
    """Show the name of the running audit, on a terminal only; "" clears it."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{name + ' ...' if name else ''}")
        sys.stderr.flush()
