"""Settings of traces."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from samplerd_server.config.parsers import or_off, share
from samplerd_server.config.setting import Setting, setting

__all__ = ["TracingConfig", "parse_endpoint"]

_URL = re.compile(r"https?://[^/\s]+(/\S*)?")


def parse_endpoint(value: object) -> str:
    """Read a URL; empty for off.

    Raises:
        ValueError: it is neither.

    """
    if value in ("", "off"):
        return ""
    if isinstance(value, str) and _URL.fullmatch(value):
        with suppress(ValueError):  # a port that is none, brackets that do not close
            parts = urlsplit(value)
            if parts.hostname and parts.port != 0:
                return value
    raise ValueError("expected a URL such as http://127.0.0.1:4318, or off")


@dataclass(frozen=True, slots=True, kw_only=True)
class TracingConfig:
    """Traces, sent to a collector of OpenTelemetry."""

    endpoint: str = setting(
        "",
        Setting(
            flag="trace-endpoint",
            help="URL of a collector that takes OTLP over HTTP, such as http://127.0.0.1:4318, or off "
            "(pip install 'samplerd[otel]'); the OTEL_* variables of OpenTelemetry hold beside it (docs/tracing.md)",
            parse=parse_endpoint,
            show=or_off,
            value="URL",
        ),
    )
    sample: float = setting(
        0.01,
        Setting(
            flag="trace-sample",
            help="share of the calls that are traced, from 0 to 1, where the caller has not decided by traceparent",
            parse=share,
            value="SHARE",
        ),
    )
