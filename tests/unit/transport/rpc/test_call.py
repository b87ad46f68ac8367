from __future__ import annotations

import pytest

from samplerd_server.transport.rpc.arrival import ARRIVED, Arrival
from samplerd_server.transport.rpc.call import Call
from samplerd_server.transport.rpc.caller import CALLER


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


async def test_what_the_transport_knows_of_a_call_is_not_asked_again():
    arrival = Arrival(0.0)
    ARRIVED.set(arrival)
    call = Call("Sample", 0.0, Context("ipv4:10.0.0.1:99"))
    assert call.connection == "ipv4:10.0.0.1:99"
    arrival.connection = "ipv4:10.0.0.2:7"
    assert call.connection == "ipv4:10.0.0.2:7"
    CALLER.set("ann")
    assert call.connection == "ann"
