"""Everything in the repository that is written by a program: which files, and from what.

`FILES` is the only list. To have another file generated, write a module here with a function that gives its text, and
add a line. `make generate` writes all of them; `make check-generated` and tests/repo prove that they are fresh.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from scripts.generate import (
    cluster_rules,
    command_line,
    configuration,
    dashboard,
    figures,
    go_client,
    hard_cases,
    metrics,
    npm_package,
    page_assets,
    protocol,
    python_client,
    sampling_page,
    scaling_page,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FILES", "ROOT"]

ROOT = Path(__file__).parents[2]

FILES: dict[str, Callable[[], str]] = {
    "README.md": figures.readme,
    "client/go/params.go": go_client.module,
    "client/python/README.md": python_client.readme,
    "client/python/samplerd_client/parameter_table.py": python_client.table,
    "client/python/samplerd_client/sampling_params.py": python_client.classes,
    "deploy/grafana/samplerd.json": dashboard.page,
    "deploy/helm/samplerd/files/rules.yml": cluster_rules.chart_file,
    "deploy/kubernetes/components/podmonitor/prometheusrule.yaml": cluster_rules.rule_object,
    "docs/batching.md": figures.batching_page,
    "docs/command_line.md": command_line.page,
    "docs/configuration.md": configuration.page,
    "docs/deployment.md": figures.deployment_page,
    "docs/first_start.md": figures.first_start_page,
    "docs/metrics.md": metrics.page,
    "docs/performance.md": figures.performance_page,
    "docs/protocol.md": protocol.page,
    "docs/sampling.md": sampling_page.page,
    "docs/scaling.md": scaling_page.page,
    "docs/security.md": figures.security_page,
    "docs/what_goes_wrong.md": hard_cases.page,
    "docs/tracing.md": figures.tracing_page,
    "docs/workers.md": figures.workers_page,
    "docs/engines.md": figures.engines_page,
    "package.json": npm_package.package_json,
    "server/samplerd_server/transport/page/assets/parameters.json": page_assets.parameters,
    "server/samplerd_server/transport/page/assets/rows.json": page_assets.rows,
}
"""Path within the repository, and what gives the whole text of that file."""
