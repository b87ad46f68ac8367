"""What a server counted, read from its /metrics, and the difference between two readings."""

from __future__ import annotations

import urllib.request
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

__all__ = ["Reading", "parse_metrics", "read_metrics"]


@dataclass(frozen=True, slots=True)
class Reading:
    """The value of every sample, by its name and labels; or how much each grew between two readings."""

    values: dict[tuple[str, frozenset[tuple[str, str]]], float]

    def __sub__(self, earlier: Reading) -> Reading:
        """Subtract an earlier reading; what it did not have yet counts from 0."""
        return Reading({key: value - earlier.values.get(key, 0.0) for key, value in self.values.items()})

    def total(self, name: str, **labels: str) -> float:
        """Sum all samples of this name whose labels include these.

        Raises:
            KeyError: there is no sample of this name.

        """
        wanted = set(labels.items())
        matching = [value for (known, have), value in self.values.items() if known == name and wanted <= have]
        if not matching and not any(known == name for known, _ in self.values):
            raise KeyError(name)
        return sum(matching)

    def mean(self, histogram: str, **labels: str) -> float:
        """Divide a histogram's sum by its count; NaN if it counted nothing."""
        count = self.total(f"{histogram}_count", **labels)
        return self.total(f"{histogram}_sum", **labels) / count if count else float("nan")


def read_metrics(url: str, *, timeout_s: float = 10.0) -> Reading:
    """Scrape once."""
    with urllib.request.urlopen(url, timeout=timeout_s) as reply:  # noqa: S310  # the url is our own server's
        return parse_metrics(reply.read().decode())


def parse_metrics(text: str) -> Reading:
    """Read Prometheus' text format."""
    return Reading(
        {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
    )
