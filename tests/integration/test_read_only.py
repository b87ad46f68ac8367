"""A root file system that can only be read, and a user whom the system does not know and who has no home."""

from __future__ import annotations

import http.client
import os
import shutil
import subprocess
import time
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import samplerd_server
from samplerd.v1 import sampler_pb2 as pb
from samplerd.v1 import sampler_pb2_grpc
from tests.support.daemon import START_S, Daemon
from tests.support.requests import one_hot, tensor
from tests.support.served import WAIT_S
from tests.support.tools import cannot

ASK = pb.SampleRequest(id=1, tensor=tensor(one_hot(1, 100, 7)))
# Only the right to read what others cannot is kept: this Python may be in a folder of root's.
RIGHTS = "-all,+dac_read_search"
USER = (
    *("setpriv", "--reuid", "60001", "--regid", "60001", "--clear-groups"),
    *("--inh-caps", RIGHTS, "--ambient-caps", RIGHTS, "--bounding-set", RIGHTS),
)
MOUNT = """
mount --make-rprivate /
if [ -n "$1" ]; then mount --bind "$1" "$2" && mount -o remount,bind,ro "$2"; fi
shift 2
mount -o remount,bind,ro /
for own in /tmp /var/tmp; do if mountpoint -q $own; then mount -o remount,bind,ro $own; fi; done
cd / && exec "$@"
"""


def read_only(shown: str | Path = "", at: str | Path = "") -> tuple[str, ...]:
    """Run a command for which nothing but /dev/shm can be written, and a folder shows what another has."""
    return ("unshare", "--mount", "bash", "-euc", MOUNT, "bash", str(shown), str(at), *USER)


READ_ONLY = read_only()
"""As above; the command keeps its process id."""
PACKAGE = Path(samplerd_server.__file__).parent


@pytest.fixture
def environment():
    done = subprocess.run([*READ_ONLY, "true"], capture_output=True, check=False)
    if done.returncode:
        cannot(f"this system allows no mounts: {done.stderr.decode()}")
    return {name: value for name, value in os.environ.items() if name not in {"HOME", "USER", "LOGNAME", "TMPDIR"}}


def test_it_starts_and_serves(environment):
    with Daemon("--transport", "envoy", env=environment, within=READ_ONLY) as daemon:
        assert not [line for line in daemon.log if '"level": "info"' not in line], daemon.log
        with grpc.insecure_channel(daemon.address) as channel:
            reply = sampler_pb2_grpc.SamplerServiceStub(channel).Sample(ASK, timeout=WAIT_S)
            assert list(reply.samples) == [7]


def owned(user: int) -> set[Path]:
    return {path for path in Path("/dev/shm").iterdir() if path.stat().st_uid == user}


def test_it_starts_where_no_cache_is_and_none_can_be_written(tmp_path, environment):
    """Kernels are then compiled beside the server, which says so and can be ended meanwhile."""
    installed = tmp_path / PACKAGE.name
    shutil.copytree(PACKAGE, installed, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (tmp_path, installed):
        path.chmod(0o755)
    within = read_only(installed, PACKAGE)
    with Daemon(env=environment, within=within, until="starting") as daemon:
        compiling = daemon.wait_event("compiling kernels", START_S)
        assert (compiling["saved"], compiling["usually"]) == ("no", "1-3min")
        with grpc.insecure_channel(daemon.address) as channel:
            health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=WAIT_S)
            assert health.status == health_pb2.HealthCheckResponse.NOT_SERVING
        for path, status, text in (("/livez", 200, "ok"), ("/readyz", 503, "kernels that no cache holds are compiled")):
            reply = http.client.HTTPConnection(daemon.metrics_address, timeout=WAIT_S)
            reply.request("GET", path)
            answer = reply.getresponse()
            assert (answer.status, text in answer.read().decode()) == (status, True)
            reply.close()
        assert owned(60001)
    assert [line for line in daemon.log if '"level": "info"' not in line] == []
    end = time.monotonic() + WAIT_S
    while owned(60001):  # what compiles ends once the server has
        assert time.monotonic() < end, owned(60001)
        time.sleep(0.1)


def test_nothing_can_be_written_there(environment):
    for path in ("/samplerd-test", "/tmp/samplerd-test", "/var/tmp/samplerd-test"):
        assert subprocess.run([*READ_ONLY, "touch", path], capture_output=True, check=False).returncode != 0
