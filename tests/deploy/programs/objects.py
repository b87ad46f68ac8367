"""Run by the python of build/deploy: objects of Kubernetes, of kustomize or of a chart, held against schemas.

It prints JSON: the objects, and a line for each problem.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import yaml
from pydantic import ValidationError

VERSIONS = ("1.37", "1.30")
"""Versions of Kubernetes whose schemas are asked."""
MODELS = {
    "ScaledObject": "cloudcoil.models.keda.v1alpha1",
    "PodMonitor": "cloudcoil.models.prometheus_operator.v1",
    "PrometheusRule": "cloudcoil.models.prometheus_operator.v1",
}
"""Modules of the models of custom resources, which take a second to import."""
ELSEWHERE = {"GRPCRoute"}
"""Kinds that another program looks at."""
SEVERITIES = ("unknown", "info", "warning", "error")


def kustomize(folder: str) -> list[dict[str, Any]]:
    """Render a folder."""
    program = Path(sys.executable).with_name("kubectl")
    text = subprocess.run([program, "kustomize", folder], check=True, stdout=subprocess.PIPE, text=True).stdout
    return list(yaml.safe_load_all(text))


def helm(chart: str, values: dict[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """Render a chart; returns what its linter and its schema of values say too."""
    report = helm_python.lint(chart, values, strict=True, namespace="sampling")
    problems = [
        f"helm lint: {SEVERITIES[own['severity']]}: {own['error']}" for own in report["messages"] if own["severity"] > 1
    ]
    try:
        loaded = helm_python.Chart.load(chart)
        rendered = loaded.render(values, name="release", namespace="sampling")
    except helm_python.HelmError as error:
        return [], [*problems, f"helm: {error}"]
    texts = [text for path, text in sorted(rendered.items()) if path.endswith(".yaml")]
    return [one for text in texts for one in yaml.safe_load_all(text) if one], problems


def problems_of(given: dict[str, Any]) -> list[str]:
    """Hold one object against the schema of its kind, which knows no other keys."""
    kind = given["kind"]
    if kind in ELSEWHERE:
        return []
    if kind in MODELS:
        try:
            model = getattr(importlib.import_module(MODELS[kind]), kind)
            known = model.model_validate(given).model_dump(by_alias=True, exclude_unset=True, mode="json")
        except ValidationError as error:
            return [f"{kind}: {error}"]
        return [f"{kind}: {path} is unknown" for path in unknown(given, known)]
    found = []
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(given, version, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            found.append(f"{kind}, Kubernetes {version}: {error.message}")
    return found


def unknown(given: Any, known: Any, path: str = "") -> list[str]:
    """Give the paths that a model has left out."""
    if isinstance(given, dict):
        missing = [f"{path}.{name}" for name in given if name not in known]
        return missing + [
            own for name in given if name in known for own in unknown(given[name], known[name], f"{path}.{name}")
        ]
    if isinstance(given, list):
        return [own for index, value in enumerate(given) for own in unknown(value, known[index], f"{path}[{index}]")]
    return []


def main() -> None:
    """Read what to render: kustomize FOLDER, or helm CHART VALUES."""
    how, where, *values = sys.argv[1:]
    objects, problems = (kustomize(where), []) if how == "kustomize" else helm(where, json.loads(values[0]))
    problems += [problem for given in objects for problem in problems_of(given)]
    json.dump({"objects": objects, "problems": problems}, sys.stdout)


main()
