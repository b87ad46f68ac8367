"""Structured logs on standard error: one line per event, as text for people or as JSON for machines.

Every event is a short sentence with named values in ``extra={"values": {...}}``. Rows, drawn ids and credentials are
never logged. Times are RFC 3339 in UTC, with milliseconds. A reader that stops holds the process up for a second and no
longer: then lines are dropped, and counted, until it reads again.
"""

from __future__ import annotations

import json
import logging
import select
import sys
import time
from typing import TYPE_CHECKING, Any

from samplerd_server.config import ENGINE
from samplerd_server.process.background_log import BackgroundLog

if TYPE_CHECKING:
    from samplerd_server.config import LogConfig, WorkerConfig

__all__ = ["access_event", "background_event", "close_background", "dropped_lines", "event", "set_up"]

_GRPCIO = "grpc._cython.cygrpc"
_FILE = 2
"""The descriptor of standard error."""
_WAIT_S = 1.0
"""How long the first line that finds no room waits for a reader."""


def event(logger: logging.Logger, level: int, message: str, **values: object) -> None:
    """Log one event with named values."""
    logger.log(level, message, extra={"values": values})


_background: BackgroundLog | None = None
"""Writes the lines that may be many; None until `set_up`."""


def background_event(logger: logging.Logger, level: int, message: str, **values: object) -> None:
    """Log one event of which there may be many, without waiting for whoever reads the log."""
    if _background is None:
        event(logger, level, message, **values)
    elif logger.isEnabledFor(level):
        _background.put(logger.name, level, message, values)


def access_event(values: dict[str, object]) -> None:
    """Log a call that has ended, without waiting and whatever the lowest severity is: it has a switch of its own."""
    if _background is not None:
        _background.put("samplerd.access", logging.INFO, "call", values)


def close_background() -> None:
    """Write the lines that wait, for at most a second."""
    if _background is not None:
        _background.close()


def dropped_lines() -> int:
    """Count the lines that nobody read fast enough, and those that could not be written."""
    return 0 if _background is None else _background.dropped + _background.lost


def set_up(config: LogConfig, worker: WorkerConfig | None = None) -> None:
    """Send all logs to standard error in the configured format. Called once, at start-up.

    Args:
        config: format and lowest severity.
        worker: says which worker or door it is, as each of its lines does; None = none.

    """
    global _background  # noqa: PLW0603  # there is one standard error
    handler = _Handler(sys.stderr)
    own = {} if worker is None or worker.role == ENGINE else {worker.role: worker.index}
    formatter = _Json(own) if config.format == "json" else _Text(own)
    handler.setFormatter(formatter)
    _background = BackgroundLog(_FILE, formatter.format)
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


class _Handler(logging.StreamHandler[Any]):
    """Writes the lines that are few; when logging ends, those of the background are written too."""

    _is_full = False
    """Whether the last line found no room."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, or count it as dropped: the event loop must not stand still with whoever reads the log."""
        if self._has_room():
            super().emit(record)
        elif _background is not None:
            _background.dropped += 1

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # the name of logging
        """Count a line that could not be written; there is nowhere to say why."""
        if isinstance(sys.exc_info()[1], OSError):
            if _background is not None:
                _background.dropped += 1
        else:
            super().handleError(record)

    def _has_room(self) -> bool:
        try:
            _, found, _ = select.select((), (_FILE,), (), 0.0 if self._is_full else _WAIT_S)
        except (OSError, ValueError):  # it is closed: writing to it tells
            return True
        self._is_full = not found
        return not self._is_full

    def close(self) -> None:
        """Write what waits."""
        close_background()
        super().close()


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
        line = f"{_rfc_3339(record.created)} {record.levelname:<7} {record.getMessage()}{pairs}"
        return line + ("\n" + self.formatException(record.exc_info) if record.exc_info else "")


class _Json(_Values):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": _rfc_3339(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self.values(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def _rfc_3339(seconds: float) -> str:
    """Write a time since the epoch: 2026-11-29T17:45:12.123Z."""
    milliseconds = int(seconds * 1e3)
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(milliseconds // 1000))
    return f"{whole}.{milliseconds % 1000:03d}Z"
