"""One look at a server's /metrics, and what two looks say of the time between them."""

from __future__ import annotations

import ipaddress
import re
import time
import urllib.error
import urllib.request
from collections import defaultdict
from dataclasses import dataclass, field
from http.client import HTTPException

__all__ = ["Figures", "Look", "NoAnswerError", "figures", "look"]

_TIMEOUT_S = 5.0
_LINE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")
_REFUSED = 'code="RESOURCE_EXHAUSTED"'
_OK = 'code="OK"'


class NoAnswerError(Exception):
    """A server's /metrics cannot be read; the text says why."""


@dataclass(frozen=True, slots=True)
class Look:
    """What /metrics said once."""

    at_s: float
    """When, in seconds on the monotonic clock."""
    series: dict[str, list[tuple[str, float]]]
    """For each name its series: their labels as they stand there, and their values."""

    def total(self, name: str, *, without: tuple[str, ...] = ()) -> float:
        """Sum the series of a name whose labels hold none of these texts."""
        return sum(value for labels, value in self.series[name] if not any(text in labels for text in without))


@dataclass(frozen=True, slots=True)
class Figures:
    """What happened between two looks, and what waits at the second."""

    rows_per_s: float
    requests_per_s: float
    rows_per_batch: float
    """Mean; NaN = there was no batch."""
    transport_wait_s: float
    """Mean seconds until a call's handler began; NaN = there was no call."""
    queue_wait_s: float
    """Mean seconds of a request in the queue; NaN = there was none."""
    compute_s: float
    """Mean seconds of a batch; NaN = there was none."""
    waiting_calls: float
    queue_rows: float
    shed_per_s: float
    """Requests refused on arrival."""
    failed_per_s: float
    """Requests that failed otherwise."""
    workers_up: float = field(default=float("nan"))
    """Workers that answered; NaN = the server has none."""


def look(address: str) -> Look:
    """Read the metrics of the server whose /metrics is at ``host:port``.

    Raises:
        NoAnswerError: they cannot be read.

    """
    # Whatever proxy reaches other hosts, this machine is reached without one.
    handlers = [urllib.request.ProxyHandler({})] if _is_here(address) else []
    try:
        with urllib.request.build_opener(*handlers).open(f"http://{address}/metrics", timeout=_TIMEOUT_S) as reply:
            text = reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            raise NoAnswerError(f"/metrics answered {error.code}") from None
    except (OSError, HTTPException, UnicodeDecodeError) as error:
        cause = getattr(error, "reason", error)
        text = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
        raise NoAnswerError(text) from None
    series: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for match in map(_LINE.fullmatch, text.splitlines()):
        if match is not None:
            series[match[1]].append((match[2] or "", float(match[3])))
    if "samplerd_build_info" not in series:
        raise NoAnswerError("no samplerd: /metrics says nothing of it")
    return Look(time.monotonic(), series)


def figures(before: Look, after: Look) -> Figures:
    """Compare two looks at one server; a counter that fell belongs to a server that was started again."""

    def grown(name: str, *, without: tuple[str, ...] = ()) -> float:
        return max(0.0, after.total(name, without=without) - before.total(name, without=without))

    def rate(name: str, *, without: tuple[str, ...] = ()) -> float:
        return grown(name, without=without) / (after.at_s - before.at_s)

    def mean(name: str) -> float:
        number = grown(f"{name}_count")
        return grown(f"{name}_sum") / number if number else float("nan")

    return Figures(
        rows_per_s=rate("samplerd_rows_total"),
        requests_per_s=rate("samplerd_requests_total"),
        rows_per_batch=mean("samplerd_batch_rows"),
        transport_wait_s=mean("samplerd_transport_wait_seconds"),
        queue_wait_s=mean("samplerd_queue_wait_seconds"),
        compute_s=mean("samplerd_compute_seconds"),
        waiting_calls=after.total("samplerd_transport_waiting_calls"),
        queue_rows=after.total("samplerd_queue_rows"),
        shed_per_s=rate("samplerd_shed_total"),
        failed_per_s=rate("samplerd_requests_total", without=(_OK, _REFUSED)),
        workers_up=after.total("samplerd_worker_up") if "samplerd_worker_up" in after.series else float("nan"),
    )


def _is_here(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
