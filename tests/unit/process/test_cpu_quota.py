"""The cores that a process may use: its affinity and the quotas of its control groups."""

import os

import pytest

from samplerd_server.process.cpu_quota import usable_cores

V1 = ("cpu.cfs_quota_us", "cpu.cfs_period_us")


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))


def system(folder, membership: str, files: dict[str, str]):
    """A root file system with the membership of this process and files of control groups."""
    for name, text in {"proc/self/cgroup": membership, **files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("200000 100000", 2), ("150000 100000", 2), ("10000 100000", 1), ("max 100000", 8), ("1600000 100000", 8)],
)
def test_a_quota_of_version_2(tmp_path, quota, cores):
    root = system(tmp_path, "0::/\n", {"sys/fs/cgroup/cpu.max": quota + "\n"})
    assert usable_cores(root) == cores


def test_the_groups_around_count_too(tmp_path):
    files = {"pod/box/cpu.max": "max 100000\n", "pod/cpu.max": "300000 100000\n", "cpu.max": "max 100000\n"}
    files = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    assert usable_cores(system(tmp_path, "0::/pod/box\n", files)) == 3


@pytest.mark.parametrize(("quota", "cores"), [("250000", 3), ("-1", 8)])
@pytest.mark.parametrize("group", ["", "docker/1f/"])
def test_a_quota_of_version_1(tmp_path, quota, cores, group):
    files = dict(zip((f"sys/fs/cgroup/cpu,cpuacct/{group}{name}" for name in V1), (quota, "100000"), strict=True))
    assert usable_cores(system(tmp_path, f"5:memory:/m\n3:cpu,cpuacct:/{group}\n", files)) == cores


def test_the_path_of_the_host_does_not_matter_in_a_container(tmp_path):
    files = dict(zip((f"sys/fs/cgroup/cpu/{name}" for name in V1), ("100000", "100000"), strict=True))
    assert usable_cores(system(tmp_path, "3:cpu:/kubepods/pod7/1f\n", files)) == 1


@pytest.mark.parametrize("text", ["", "rubbish\n", "0 0\n", "1 0\n"])
def test_what_cannot_be_read_is_no_quota(tmp_path, text):
    assert usable_cores(tmp_path) == 8
    assert usable_cores(system(tmp_path, "0::/\n", {"sys/fs/cgroup/cpu.max": text})) == 8
