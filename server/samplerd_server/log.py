"""Structured logs on standard error: one line an event, text for people or JSON for machines.

Every event is a short sentence with named values in ``extra={"values": {...}}``. Never logs rows, ids or credentials.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from samplerd_server.config import LogConfig

__all__ = ["event", "set_up"]


def event(logger: logging.Logger, level: int, message: str, **values: object) -> None:
    """Log one event with named values."""
    logger.log(level, message, extra={"values": values})


def set_up(config: LogConfig) -> None:
    """Send all logs to standard error in the configured form. Once, at start-up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if config.format == "json" else _Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(config.level.upper())
    # numba's compiler logs every byte-code it looks at.
    logging.getLogger("numba").setLevel(logging.WARNING)


def _values(record: logging.LogRecord) -> dict[str, Any]:
    values: dict[str, Any] = getattr(record, "values", {})
    return values


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        pairs = "".join(f" {name}={value}" for name, value in _values(record).items())
        line = f"{self.formatTime(record)} {record.levelname:<7} {record.getMessage()}{pairs}"
        return line + ("\n" + self.formatException(record.exc_info) if record.exc_info else "")


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_values(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)
