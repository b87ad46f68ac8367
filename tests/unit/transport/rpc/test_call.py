from __future__ import annotations

import pytest

from samplerd_server.transport.rpc.call import Call


class Context:
    def __init__(self, peer: str, *metadata: tuple[str, str]) -> None:
        self._peer, self._metadata = peer, metadata

    def peer(self) -> str:
        return self._peer

    def invocation_metadata(self):
        return self._metadata


@pytest.mark.parametrize(
    ("peer", "metadata", "share"),
    [
        ("ipv4:10.0.0.1:99", [("x-samplerd-client", "a")], "ipv4:10.0.0.1:99"),
        ("unix:", [], "unix:"),
        ("unix:", [("user-agent", "x"), ("x-samplerd-client", "a")], "unix:a"),
        ("unix:", [("x-samplerd-client", "a" * 100)], "unix:" + "a" * 64),
        ("unix-abstract:name", [("x-samplerd-client", "a")], "unix-abstract:namea"),
        ("unix:17", [("x-samplerd-client", "a")], "unix:17"),
    ],
)
def test_whose_share_a_call_counts_against(peer, metadata, share):
    assert Call("Sample", 0.0, Context(peer, *metadata)).connection == share
