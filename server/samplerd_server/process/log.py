"""Structured logs on standard error: one line per event, as text for people or as JSON for machines.

Every event is a short sentence with named values in ``extra={"values": {...}}``. Rows, ids and credentials are never
logged.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from samplerd_server.config import LogConfig

__all__ = ["event", "set_up"]

_GRPCIO = "grpc._cython.cygrpc"


def event(logger: logging.Logger, level: int, message: str, **values: object) -> None:
    """Log one event with named values."""
    logger.log(level, message, extra={"values": values})


def set_up(config: LogConfig, worker: int | None = None) -> None:
    """Send all logs to standard error in the configured format. Called once, at start-up.

    Args:
        config: format and lowest severity.
        worker: number of the worker, added to each of its lines; None = not a worker.

    """
    handler = logging.StreamHandler(sys.stderr)
    own = {} if worker is None else {"worker": worker}
    handler.setFormatter(_Json(own) if config.format == "json" else _Text(own))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(config.level.upper())
    # At lower severities numba's compiler logs every bytecode it reads.
    logging.getLogger("numba").setLevel(logging.WARNING)
    logging.getLogger(_GRPCIO).addFilter(_is_of_a_call_in_progress)


def _is_of_a_call_in_progress(record: logging.LogRecord) -> bool:
    """Whether a line of grpcio is not the one that says that a call was over before its status was sent.

    A client that goes, or sends what is no message, ends its call; grpcio logs that as an error, with a traceback, if
    the handler ends at the same time.
    """
    return not record.getMessage().startswith("ExecuteBatchError raised in core by servicer method")


class _Values(logging.Formatter):
    """The part that both formats share: the named values of a line."""

    def __init__(self, own: dict[str, Any]) -> None:
        super().__init__()
        self._own = own

    def values(self, record: logging.LogRecord) -> dict[str, Any]:
        """Give the values of the process and of the event."""
        values: dict[str, Any] = getattr(record, "values", {})
        return self._own | values


class _Text(_Values):
    def format(self, record: logging.LogRecord) -> str:
        pairs = "".join(f" {name}={value}" for name, value in self.values(record).items())
        line = f"{self.formatTime(record)} {record.levelname:<7} {record.getMessage()}{pairs}"
        return line + ("\n" + self.formatException(record.exc_info) if record.exc_info else "")


class _Json(_Values):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self.values(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)
