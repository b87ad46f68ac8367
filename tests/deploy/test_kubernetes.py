"""The folders of kustomize and the chart of Helm: their objects are Kubernetes' own, agree, and fit the server."""

from __future__ import annotations

import copy
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from samplerd import __version__
from tests.deploy.kubernetes import CHART, ROOT, Objects, helm, kustomize, of_kind

pytestmark = pytest.mark.deploy

FOLDER = ROOT / "deploy" / "kubernetes"
ALWAYS = {"Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service"}
EVERYTHING: dict[str, Any] = {
    "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "grpcRoute": {"enabled": True, "hostnames": ["sampler.example"]},
    "tls": {"secret": "tls", "clientCertificates": True},
    "tokens": {"secret": "tokens"},
    "args": ["--workers", "2"],
    "settings": {"MAX_BATCH_ROWS": 512, "REFLECTION": True},
}
LEAST_S = 15
"""What workers need beyond the drain to end (process/workers/pool.py)."""


@pytest.fixture(scope="module")
def kustomized(tmp_path_factory) -> Objects:
    """The base with every component but hpa, which excludes keda."""
    return with_components(tmp_path_factory.mktemp("kustomize"), "keda", "podmonitor", "grpcroute")


@pytest.fixture(scope="module")
def charted() -> Objects:
    objects, problems = helm()
    assert not problems, problems
    return objects


@pytest.fixture(scope="module")
def with_everything() -> Objects:
    objects, problems = helm(**EVERYTHING)
    assert not problems, problems
    return objects


def with_components(folder: Path, *names: str, more: str = "") -> Objects:
    shutil.copytree(FOLDER, folder / "kubernetes")
    lines = ["resources: [kubernetes/base]", "components:", *(f"  - kubernetes/components/{name}" for name in names)]
    (folder / "kustomization.yaml").write_text("\n".join([*lines, more]))
    objects, problems = kustomize(folder)
    assert not problems, problems
    return objects


def test_the_base_with_its_components(kustomized: Objects, tmp_path: Path) -> None:
    kinds = {own["kind"] for own in kustomized}
    assert kinds == ALWAYS | {"ScaledObject", "PodMonitor", "PrometheusRule", "GRPCRoute"}
    scaled = with_components(tmp_path, "hpa")
    assert {own["kind"] for own in scaled} == ALWAYS | {"HorizontalPodAutoscaler"}
    for objects in (kustomized, scaled):
        assert "replicas" not in of_kind(objects, "Deployment")["spec"], "what scales it decides"
    assert of_kind(kustomize(FOLDER / "base")[0], "Deployment")["spec"]["replicas"] == 3


@pytest.mark.parametrize("scaling", ["autoscaling", "keda"])
def test_the_chart_with_all_its_parts(scaling: str) -> None:
    objects, problems = helm(**EVERYTHING, **{scaling: {"enabled": True}})
    assert not problems, problems
    scaler = {"autoscaling": "HorizontalPodAutoscaler", "keda": "ScaledObject"}[scaling]
    assert {own["kind"] for own in objects} == ALWAYS | {scaler, "PodMonitor", "PrometheusRule", "GRPCRoute"}
    assert "replicas" not in of_kind(objects, "Deployment")["spec"]
    assert {own["metadata"]["name"] for own in objects} == {"release-samplerd"}


@pytest.mark.parametrize("source", ["kustomized", "charted"])
def test_the_pods_settings_are_ones_that_samplerd_takes(source: str, request) -> None:
    checked = check_config(container(request.getfixturevalue(source)))
    assert checked.returncode == 0, checked.stderr
    assert '"0.0.0.0:50051"' in checked.stdout


def test_so_are_those_of_the_chart_with_all_its_parts(tmp_path: Path) -> None:
    objects, _ = helm(**EVERYTHING | {"tls": {}, "tokens": {}})
    checked = check_config(container(objects))
    assert checked.returncode == 0, checked.stderr
    assert "max_batch_rows = 512" in checked.stdout
    assert "workers = 2" in checked.stdout


@pytest.mark.parametrize("namespace", ["default", "sampling"])
def test_the_base_with_its_components_works_in_any_namespace_and_with_another_name(
    namespace: str, tmp_path: Path
) -> None:
    more = f"namespace: {namespace}\nnamePrefix: eu-\ntransformers: [kubernetes/components/keda/query]"
    objects = with_components(tmp_path, "keda", "podmonitor", "grpcroute", more=more)
    assert {(own["metadata"]["namespace"], own["metadata"]["name"]) for own in objects} == {(namespace, "eu-samplerd")}
    [query] = queries(objects)
    assert re.findall(r'namespace="(.*?)"', query) == [namespace]
    assert of_kind(objects, "ScaledObject")["spec"]["scaleTargetRef"]["name"] == "eu-samplerd"
    [rule] = of_kind(objects, "GRPCRoute")["spec"]["rules"]
    assert [own["name"] for own in rule["backendRefs"]] == ["eu-samplerd"]
    others = [own for own in objects if own["kind"] != "PrometheusRule"]  # whose job is a label of the pods
    texts = [text for own in others for text in texts_of(own["spec"]) if re.search(r"\b(default|NAMESPACE)\b", text)]
    assert texts == ([query] if namespace == "default" else [])


def test_an_hpa_finds_a_deployment_with_another_name(tmp_path: Path) -> None:
    objects = with_components(tmp_path, "hpa", more="namePrefix: eu-")
    assert of_kind(objects, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"] == "eu-samplerd"


def test_the_query_without_a_namespace_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"metadata.namespace. is missing"):
        with_components(tmp_path, "keda", more="transformers: [kubernetes/components/keda/query]")


def test_the_charts_query_counts_the_pods_of_its_own_release() -> None:
    objects, _ = helm(keda={"enabled": True})
    [query] = queries(objects)
    assert re.findall(r'namespace="(.*?)"', query) == ["sampling"]
    [pods] = re.findall(r'pod=~"(.*?)"', query)
    assert re.fullmatch(pods, "release-samplerd-7d4b9c6f5-x2x9z")
    assert not re.fullmatch(pods, "release-samplerd-big-7d4b9c6f5-x2x9z"), "the pods of another release"


def test_keda_may_go_by_processor_time_alone() -> None:
    objects, problems = helm(keda={"enabled": True}, autoscaling={"waitingCalls": 0})
    assert not problems, problems
    assert [own["type"] for own in of_kind(objects, "ScaledObject")["spec"]["triggers"]] == ["cpu"]


def test_the_log_may_have_another_form() -> None:
    objects, problems = helm(settings={"LOG_FORMAT": "text"})
    assert not problems, problems
    assert [own["value"] for own in container(objects)["env"] if own["name"] == "SAMPLERD_LOG_FORMAT"] == ["text"]


def queries(objects: Objects) -> list[str]:
    """What KEDA asks Prometheus."""
    triggers = of_kind(objects, "ScaledObject")["spec"]["triggers"]
    return [own["metadata"]["query"] for own in triggers if own["type"] == "prometheus"]


def texts_of(given: Any) -> list[str]:
    """Every text in an object."""
    if isinstance(given, dict | list):
        values = given.values() if isinstance(given, dict) else given
        return [text for value in values for text in texts_of(value)]
    return [given] if isinstance(given, str) else []


def container(objects: Objects) -> dict[str, Any]:
    [found] = of_kind(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    return dict(found)


def check_config(pod: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    given = {own["name"]: own["value"] for own in pod["env"]}
    others = {name: value for name, value in os.environ.items() if not name.startswith("SAMPLERD_")}
    command = [sys.executable, "-m", "samplerd_server", "--check-config", *pod.get("args", [])]
    return subprocess.run(command, env=others | given, capture_output=True, text=True, check=False)


def test_both_start_the_same_pods(kustomized: Objects, charted: Objects) -> None:
    deployments = copy.deepcopy([of_kind(own, "Deployment") for own in (kustomized, charted)])
    ours, theirs = (own["spec"]["template"]["spec"] for own in deployments)
    for spec in (ours, theirs):
        for spread in spec["topologySpreadConstraints"]:
            del spread["labelSelector"]
    theirs["containers"][0].pop("imagePullPolicy")
    assert ours == theirs


@pytest.mark.parametrize("source", ["kustomized", "charted"])
def test_every_selector_finds_the_pods(source: str, request) -> None:
    objects = request.getfixturevalue(source)
    deployment = of_kind(objects, "Deployment")["spec"]
    labels = deployment["template"]["metadata"]["labels"].items()
    selectors = [
        deployment["selector"]["matchLabels"],
        deployment["template"]["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
        of_kind(objects, "Service")["spec"]["selector"],
        of_kind(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        of_kind(objects, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ]
    for selector in selectors:
        assert selector
        assert selector.items() <= labels


@pytest.mark.parametrize("source", ["kustomized", "with_everything"])
def test_the_job_of_the_pods_is_that_of_the_rules(source: str, request) -> None:
    objects = request.getfixturevalue(source)
    label = of_kind(objects, "PodMonitor")["spec"]["jobLabel"]
    job = of_kind(objects, "Deployment")["spec"]["template"]["metadata"]["labels"][label]
    assert f'up{{job="{job}"}} == 0' in (ROOT / "deploy" / "prometheus" / "rules.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize("source", ["kustomized", "with_everything"])
def test_the_clusters_rules_are_those_of_prometheus(source: str, request) -> None:
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "rules.yml").read_text(encoding="utf-8"))
    found = copy.deepcopy(of_kind(request.getfixturevalue(source), "PrometheusRule")["spec"])
    # kustomize writes a folded text with more line breaks, which PromQL does not look at.
    for own in (found, rules):
        for rule in (rule for group in own["groups"] for rule in group["rules"]):
            rule["expr"] = " ".join(rule["expr"].split())
    assert found == rules


def test_a_pod_monitor_may_come_without_rules() -> None:
    objects, problems = helm(podMonitor={"enabled": True, "rules": False})
    assert not problems, problems
    assert {own["kind"] for own in objects} == ALWAYS | {"PodMonitor"}


@pytest.mark.parametrize("source", ["kustomized", "charted"])
def test_ports_and_probes_are_those_of_the_server(source: str, request) -> None:
    objects = request.getfixturevalue(source)
    pod = container(objects)
    assert {own["name"]: own["containerPort"] for own in pod["ports"]} == {"grpc": 50051, "metrics": 9464}
    probes = {name: pod[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {name: own["path"] for name, own in probes.items()} == {
        "startup": "/readyz",
        "liveness": "/livez",
        "readiness": "/readyz",
    }
    assert {own["port"] for own in probes.values()} == {"metrics"}
    assert of_kind(objects, "Service")["spec"]["clusterIP"] == "None"


@pytest.mark.parametrize("source", ["kustomized", "charted"])
def test_the_grace_of_termination_covers_the_drain(source: str, request) -> None:
    objects = request.getfixturevalue(source)
    given = {own["name"]: own["value"] for own in container(objects)["env"]}
    drain_s = sum(int(given[f"SAMPLERD_DRAIN_{name}"].removesuffix("s")) for name in ("DELAY", "GRACE"))
    grace_s = of_kind(objects, "Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace_s >= drain_s + LEAST_S


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"replica": 2}, "replica"),
        ({"settings": {"max-batch-rows": 2}}, "max-batch-rows"),
        ({"autoscaling": {"enabled": True}, "keda": {"enabled": True}}, "exclude each other"),
        ({"autoscaling": {"enabled": True, "waitingCalls": 0, "cpuPercent": 0}}, "must be more than 0"),
        ({"keda": {"enabled": True}, "autoscaling": {"waitingCalls": 0, "cpuPercent": 0}}, "must be more than 0"),
        ({"keda": {"enabled": True}, "autoscaling": {"minReplicas": 5, "maxReplicas": 4}}, "minReplicas"),
        ({"autoscaling": {"enabled": True, "minReplicas": 5, "maxReplicas": 4}}, "minReplicas"),
        ({"settings": {"DRAIN_DELAY": "60s"}}, "see drainDelaySeconds"),
        ({"settings": {"TLS_CERT": "/tmp/c"}}, "see tls"),
        ({"tls": {"clientCertificates": True}}, "needs tls.secret"),
        ({"networkPolicy": {"callers": [{"podSelectr": {}}]}}, "podSelectr"),
        ({"podMonitor": {"enabled": True, "interval": "soon"}}, "interval"),
        ({"grpcRoute": {"enabled": True, "parentRefs": [{"name": 7}]}}, "name"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(values: dict[str, Any], complaint: str) -> None:
    _, problems = helm(**values)
    assert any(complaint in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("file", "word"),
    [
        ("base/deployment.yaml", "failureThreshold"),
        ("components/keda/scaledobject.yaml", "cooldownPeriod"),
        ("components/podmonitor/podmonitor.yaml", "scrapeTimeout"),
    ],
)
def test_a_key_that_kubernetes_does_not_know_is_found(tmp_path: Path, file: str, word: str) -> None:
    shutil.copytree(FOLDER, tmp_path / "kubernetes")
    changed = tmp_path / "kubernetes" / file
    changed.write_text(changed.read_text().replace(word, f"{word}x"))
    component = file.split("/")[1] if file.startswith("components") else "hpa"
    (tmp_path / "kustomization.yaml").write_text(
        f"resources: [kubernetes/base]\ncomponents: [kubernetes/components/{component}]"
    )
    _, problems = kustomize(tmp_path)
    assert any(f"{word}x" in problem for problem in problems), problems


def test_the_version_of_the_chart_is_that_of_samplerd() -> None:
    chart = (CHART / "Chart.yaml").read_text(encoding="utf-8")
    assert f'appVersion: "{__version__}"' in chart
    assert f"version: {__version__}" in chart
    assert f'newTag: "{__version__}"' in (FOLDER / "base" / "kustomization.yaml").read_text(encoding="utf-8")
