"""The rules of deploy/prometheus for the Prometheus operator: an object for kustomize, a file for the chart."""

from __future__ import annotations

from pathlib import Path
from textwrap import indent

__all__ = ["chart_file", "rule_object"]

_RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "rules.yml"
_HEAD = "# The rules of deploy/prometheus/rules.yml, by `make generate`.\n"
_OBJECT = """\
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: samplerd
spec:
"""


def _groups() -> str:
    """Return the rules without the comment above them."""
    _, groups, rules = _RULES.read_text(encoding="utf-8").partition("groups:\n")
    return groups + rules


def chart_file() -> str:
    """Return what the chart's template puts into its object: Helm reads no file outside of the chart."""
    return _HEAD + _groups()


def rule_object() -> str:
    """Return the object for kustomize."""
    return _HEAD + _OBJECT + indent(_groups(), "  ")
