"""The files that tell callers where the replicas are. Pure text, and one function that moves a file into place."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["endpoints_text", "replace_file", "servers_text", "targets_text"]

_TYPE = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"


def endpoints_text(addresses: Sequence[str], version: int) -> str:
    """Return Envoy's file of endpoints (JSON is YAML), for the cluster `samplerd` of deploy/envoy/envoy.yaml.

    Args:
        addresses: host:port or [v6]:port of each replica.
        version: of the file; larger than before.

    """
    endpoints = []
    for address in addresses:
        host, _, port = address.rpartition(":")
        place = {"address": host.strip("[]"), "port_value": int(port)}
        endpoints.append({"endpoint": {"address": {"socket_address": place}}})
    assignment = {"@type": _TYPE, "cluster_name": "samplerd", "endpoints": [{"lb_endpoints": endpoints}]}
    return json.dumps({"version_info": str(version), "resources": [assignment]}, indent=2) + "\n"


def servers_text(addresses: Sequence[str]) -> str:
    """Return the addresses on one line, as ``samplerctl --server`` and the clients take several servers."""
    return ",".join(addresses) + "\n"


def targets_text(metrics: Sequence[str]) -> str:
    """Return a file for Prometheus' `file_sd_configs`, with the job that the rules of deploy/prometheus name."""
    return json.dumps([{"targets": list(metrics), "labels": {"job": "samplerd"}}], indent=2) + "\n"


def replace_file(path: Path, text: str) -> None:
    """Move a file with this text into the place of another: whoever reads sees the one or the other, whole."""
    scratch = path.with_name(f".{path.name}.new")
    scratch.write_text(text, encoding="utf-8")
    scratch.rename(path)
