"""samplerctl, the command-line client: sample, inspect, measure and audit a server.

Rule 1: results go to standard output, errors to standard error, in one line. Rule 2: the exit status tells the kind of
error. Rule 3: the commands need grpcio and numpy, so they are imported when one is run, and not for ``--help``.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING

from samplerd_client.command_line.completion import completion_script
from samplerd_client.errors import (
    ConnectionLostError,
    DeadlineError,
    SamplerdError,
    UnauthenticatedError,
    UnavailableError,
)
from samplerd_client.samplerctl import environment
from samplerd_client.samplerctl.arguments import build_parser, join_negative_values
from samplerd_client.samplerctl.flag_values import InputError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

__all__ = ["main"]

_REFUSED, _USAGE, _UNREACHED, _INTERRUPTED, _PIPE = 1, 2, 3, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run samplerctl; returns its exit status."""
    arguments = join_negative_values(sys.argv[1:] if argv is None else argv)
    parser = build_parser()
    args = parser.parse_args(arguments)
    if args.command == "completion":
        sys.stdout.write(completion_script(parser, args.shell))
        return 0
    environment.silence_grpc()
    try:
        status: int = importlib.import_module("samplerd_client.samplerctl.commands").run(args)
    except InputError as error:
        return _fail(str(error), _USAGE)
    except UnavailableError as error:
        hints = importlib.import_module("samplerd_client.samplerctl.hints")
        return _fail(hints.diagnosis(args, error.message), _UNREACHED)
    except (ConnectionLostError, DeadlineError) as error:
        return _fail(f"{_server(args)}: {error.message}{_found_by(error)}", _UNREACHED)
    except UnauthenticatedError as error:
        text = f"{error.message}; samplerctl sends the one in the variable SAMPLERD_TOKEN"
        return _fail(text + _found_by(error), _REFUSED)
    except SamplerdError as error:
        return _fail(error.message + _found_by(error), _REFUSED)
    except BrokenPipeError:
        # Whoever read our output has closed it (`| head`): discard what is still buffered.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE
    except (TypeError, ValueError, OSError) as error:
        return _fail(str(error), _USAGE)
    except KeyboardInterrupt:
        return _fail("interrupted", _INTERRUPTED)
    return status


def _server(args: argparse.Namespace) -> str:
    return str(getattr(args, "host", None) or args.server)


def _found_by(error: SamplerdError) -> str:
    """Say under which request id the server's log has a call that it answered with an error."""
    return f" (request id {error.request_id})" if error.request_id else ""


def _fail(text: str, status: int) -> int:
    sys.stderr.write(f"samplerctl: {text}\n")
    return status
