"""Targets, tokens and certificates."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from samplerd_client.channel import ChannelConfig, TlsConfig, is_local, joint_target


@pytest.mark.parametrize(
    ("target", "local"),
    [
        ("127.0.0.1:50051", True),
        ("127.9.9.9:1", True),
        ("localhost:1", True),
        ("[::1]:50051", True),
        ("ipv4:127.0.0.1:1", True),
        ("unix:/run/s", True),
        ("unix-abstract:s", True),
        ("10.0.0.1:50051", False),
        ("sampler.example:50051", False),
        ("dns:///localhost.example:1", False),
        ("[::2]:1", False),
        ("localhost.example:1", False),
        ("ipv4:127.0.0.1:1,127.0.0.1:2", True),
        ("ipv4:127.0.0.1:1,10.0.0.1:2", False),
        ("ipv6:[::1]:1,[::1]:2", True),
        ("dns:///localhost:1", True),
        ("dns:localhost:1", True),
        ("dns://10.0.0.1/localhost:1", False),
        (["127.0.0.1:1", "127.0.0.2:2"], True),
        (["unix:/a", "unix:/b"], True),
        (["127.0.0.1:1", "10.0.0.1:2"], False),
    ],
)
def test_is_local(target: str | list[str], *, local: bool) -> None:
    assert is_local(target) is local


def test_a_token_is_not_shown_to_the_network() -> None:
    with pytest.raises(ValueError, match="plain text"):
        ChannelConfig(target="10.0.0.1:1", token="t")
    assert ChannelConfig(target="10.0.0.1:1", token="t", tls=TlsConfig()).metadata == (("authorization", "Bearer t"),)
    assert ChannelConfig(target="10.0.0.1:1", token="t", allow_plaintext_token=True).metadata
    assert ChannelConfig(target="10.0.0.1:1").metadata == ()
    assert "secret" not in repr(ChannelConfig(target="localhost:1", token="secret"))


@pytest.mark.parametrize("given_s", [0.0, 1.9, math.inf, math.nan])
def test_a_ping_has_a_time_that_grpc_can_keep(given_s: float) -> None:
    with pytest.raises(ValueError, match="ping_timeout_s must be at least 2"):
        ChannelConfig(target="localhost:1", ping_timeout_s=given_s)


def test_credentials() -> None:
    with pytest.raises(ValueError, match="needs its key"):
        TlsConfig(certificate=b"x")
    with pytest.raises(ValueError, match="empty"):
        ChannelConfig(target="")
    with pytest.raises(FileNotFoundError):
        TlsConfig(ca=Path("/does/not/exist")).credentials()


@pytest.mark.parametrize(
    ("targets", "joint"),
    [
        ("any.name:1", "any.name:1"),
        (["10.0.0.1:1", "ipv4:10.0.0.2:2"], "ipv4:10.0.0.1:1,10.0.0.2:2"),
        (["[::1]:1", "[::2]:2"], "ipv6:[::1]:1,[::2]:2"),
        (["unix:/a", "unix:///b"], "unix:/a,/b"),
    ],
)
def test_several_targets_have_one_name(targets: str | list[str], joint: str) -> None:
    assert joint_target(targets) == joint
    assert ChannelConfig(target=targets).is_balanced == (not isinstance(targets, str))


@pytest.mark.parametrize(
    "targets", [["10.0.0.1:1", "unix:/a"], ["a.example:1", "b.example:1"], ["10.0.0.1:1", "[::1]:1"]]
)
def test_targets_of_several_kinds_have_none(targets: list[str]) -> None:
    with pytest.raises(ValueError, match="must all be"):
        ChannelConfig(target=targets)


def test_connections_and_metadata_are_checked() -> None:
    with pytest.raises(ValueError, match="connections"):
        ChannelConfig(target="localhost:1", connections=0)
    for key in ("X-Upper", "authorization", "x-samplerd-distribution", "grpc-timeout", ""):
        with pytest.raises(ValueError, match="no key for metadata"):
            ChannelConfig(target="localhost:1", extra_metadata=((key, "v"),))
    for target in ([], [""]):
        with pytest.raises(ValueError, match="empty"):
            ChannelConfig(target=target)
    assert ChannelConfig(target="localhost:1", extra_metadata=(("x-a", "b"),)).metadata == (("x-a", "b"),)
