"""Targets, tokens and certificates."""

from __future__ import annotations

from pathlib import Path

import pytest

from samplerd_client.channel import ChannelConfig, TlsConfig, is_local


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
    ],
)
def test_is_local(target: str, *, local: bool) -> None:
    assert is_local(target) is local


def test_a_token_is_not_shown_to_the_network() -> None:
    with pytest.raises(ValueError, match="plain text"):
        ChannelConfig(target="10.0.0.1:1", token="t")
    assert ChannelConfig(target="10.0.0.1:1", token="t", tls=TlsConfig()).metadata == (("authorization", "Bearer t"),)
    assert ChannelConfig(target="10.0.0.1:1", token="t", allow_plaintext_token=True).metadata
    assert ChannelConfig(target="10.0.0.1:1").metadata == ()
    assert "secret" not in repr(ChannelConfig(target="localhost:1", token="secret"))


def test_credentials() -> None:
    with pytest.raises(ValueError, match="needs its key"):
        TlsConfig(certificate=b"x")
    with pytest.raises(ValueError, match="empty"):
        ChannelConfig(target="")
    with pytest.raises(FileNotFoundError):
        TlsConfig(ca=Path("/does/not/exist")).credentials()
