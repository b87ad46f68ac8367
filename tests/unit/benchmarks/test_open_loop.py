"""Load by a schedule: when calls are due, what a latency counts from, and the HTTP/2 under it."""

import socket
import struct
from collections.abc import Iterator

import numpy as np
import pytest

from benchmarks import open_loop
from benchmarks.http2 import Connection, header
from benchmarks.load import LoadError
from benchmarks.open_loop import Outcome, even, poisson, send_on_schedule
from benchmarks.servers import EmptyServer

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8


def test_even_starts_keep_the_rate() -> None:
    starts = even(200.0, 2.0)
    assert len(starts) == 400
    assert starts[0] == 0
    assert np.allclose(np.diff(starts), 1 / 200)


def test_poisson_starts_keep_the_rate_and_vary() -> None:
    # n = 20,000 exponential distances: the mean's deviation is 1/sqrt(n) = 0.7 %; seed fixed, bound 4 of them.
    starts = poisson(1_000.0, 20.0, seed=3)
    distances = np.diff(starts, prepend=0.0)
    assert (distances >= 0).all()
    assert distances.mean() == pytest.approx(1e-3, rel=0.028)
    assert distances.std() == pytest.approx(1e-3, rel=0.05)
    assert not np.array_equal(starts, poisson(1_000.0, 20.0, seed=4))


class StalledLink:
    """Answers nothing until the last call of the schedule was made, then all at once."""

    def __init__(self, total: int) -> None:
        self._total = total
        self.refused: set[int] = set()
        self._made: list[int] = []
        self._ours, self._theirs = socket.socketpair()

    def fileno(self) -> int:
        return self._ours.fileno()

    @property
    def wants_to_write(self) -> bool:
        return False

    def submit(self, number: int, headers: bytes = b"") -> None:
        self._made.append(number)
        if len(self._made) == self._total:
            self._theirs.send(b"!")

    def send(self) -> None:
        pass

    def receive(self) -> list[int]:
        self._ours.recv(1)
        return self._made

    def close(self) -> None:
        self._ours.close()
        self._theirs.close()


def test_a_stall_is_charged_to_every_call_that_was_due_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    starts = np.array([0.0, 0.001, 0.01, 0.05])
    link = StalledLink(len(starts))
    monkeypatch.setattr(open_loop, "Connection", lambda *_: link)
    outcome = send_on_schedule(1, b"", starts, connections=1)
    # All end at one moment, so latencies differ by exactly what the schedule does.
    assert np.allclose(outcome.latencies_s - outcome.latencies_s[-1], starts[-1] - starts)
    assert outcome.latencies_s[0] >= 0.05
    assert (outcome.lags_s >= 0).all()
    assert outcome.elapsed_s == pytest.approx(outcome.latencies_s[0])


def test_calls_that_are_never_answered_end_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    link = StalledLink(99)
    monkeypatch.setattr(open_loop, "Connection", lambda *_: link)
    monkeypatch.setattr(open_loop, "_PATIENCE_S", 0.05)
    with pytest.raises(LoadError, match="2 of 2 calls were not answered"):
        send_on_schedule(1, b"", np.array([0.0, 0.001]), connections=1)


def test_an_outcome_is_a_rate_and_percentiles() -> None:
    outcome = Outcome(
        latencies_s=np.arange(1, 101) / 100,
        lags_s=np.zeros(100),
        is_answered=np.ones(100, bool),
        began_s=0.0,
        elapsed_s=4.0,
    )
    assert outcome.rate == 25
    assert outcome.percentiles_s()["p90"] == 0.9


@pytest.mark.parametrize("size", [10, 300_000])
def test_a_real_server_answers_every_call(size: int) -> None:
    with EmptyServer(b"\x08\x2a") as server:
        outcome = send_on_schedule(server.port, bytes(size), even(400.0, 0.1), connections=2)
    assert len(outcome.latencies_s) == 40
    assert (outcome.latencies_s > 0).all()


class Peer:
    """The other end of a connection, frame by frame."""

    def __init__(self, body: bytes) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.link = Connection(listener.getsockname()[1], b"headers", body)
            self.socket, _ = listener.accept()
        self.socket.settimeout(5)

    def write(self, kind: int, flags: int, stream: int, payload: bytes = b"") -> None:
        self.socket.sendall(struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload)

    def read(self) -> tuple[int, int, int, bytes]:
        word, flags, stream = struct.unpack(">IBI", self.exactly(9))
        return word & 0xFF, flags, stream, self.exactly(word >> 8)

    def exactly(self, size: int) -> bytes:
        return self.socket.recv(size, socket.MSG_WAITALL) if size else b""

    def pump(self) -> list[int]:
        """Let the connection read what was written to it, and answer."""
        self.link._socket.setblocking(True)
        ended = self.link.receive()
        self.link._socket.setblocking(False)
        self.link.send()
        return ended

    def is_quiet(self) -> bool:
        self.socket.setblocking(False)
        try:
            self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        finally:
            self.socket.settimeout(5)
        return False


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer(b"0123456789")
    peer.link.send()
    assert peer.exactly(24).startswith(b"PRI * HTTP/2.0")
    assert [peer.read()[0], peer.read()[0]] == [SETTINGS, WINDOW_UPDATE]
    yield peer
    peer.link.close()
    peer.socket.close()


def setting(name: int, value: int) -> bytes:
    return struct.pack(">HI", name, value)


def test_a_call_can_have_headers_of_its_own(peer: Peer) -> None:
    peer.link.submit(1, header("traceparent", "00-1-2-01"))
    peer.link.submit(2)
    peer.link.send()
    # RFC 7541, 6.2.2: a literal field that is not indexed, its name and its value each behind their length.
    assert peer.read() == (HEADERS, 4, 1, b"headers\x00\x0btraceparent\x0900-1-2-01")
    assert peer.read() == (HEADERS, 4, 3, b"headers")


def test_a_stream_waits_for_its_window(peer: Peer) -> None:
    peer.write(SETTINGS, 0, 0, setting(4, 4))
    peer.pump()
    assert peer.read() == (SETTINGS, 1, 0, b"")
    peer.link.submit(7)
    peer.link.send()
    assert peer.read() == (HEADERS, 4, 1, b"headers")
    assert peer.read() == (DATA, 0, 1, b"0123")
    assert peer.is_quiet()
    peer.write(WINDOW_UPDATE, 0, 1, struct.pack(">I", 5))
    peer.pump()
    assert peer.read() == (DATA, 0, 1, b"45678")
    peer.write(SETTINGS, 0, 0, setting(4, 20))  # what is open grows with the default
    peer.pump()
    assert [peer.read(), peer.read()] in (
        [(SETTINGS, 1, 0, b""), (DATA, 1, 1, b"9")],
        [(DATA, 1, 1, b"9"), (SETTINGS, 1, 0, b"")],
    )


def test_a_call_waits_for_a_free_stream_and_ends_with_its_trailers(peer: Peer) -> None:
    peer.write(SETTINGS, 0, 0, setting(3, 1))
    peer.pump()
    peer.read()
    peer.link.submit(7)
    peer.link.submit(8)
    peer.link.send()
    assert [peer.read()[:3], peer.read()[:3]] == [(HEADERS, 4, 1), (DATA, 1, 1)]
    assert peer.is_quiet()
    peer.write(HEADERS, 4, 1)
    assert peer.pump() == []
    peer.write(HEADERS, 5, 1)
    assert peer.pump() == [7]
    assert [peer.read()[:3], peer.read()[:3]] == [(HEADERS, 4, 3), (DATA, 1, 3)]


def test_a_status_without_a_message_is_no_answer(peer: Peer) -> None:
    for number in (7, 8, 9):
        peer.link.submit(number)
    peer.link.send()
    peer.write(HEADERS, 5, 1)  # grpcio's refusal
    peer.write(HEADERS, 4, 3)
    peer.write(DATA, 1, 3)  # Envoy's
    peer.write(HEADERS, 4, 5)
    peer.write(DATA, 0, 5, b"reply")
    peer.write(HEADERS, 5, 5)
    ended: list[int] = []
    while len(ended) < 3:
        ended += peer.pump()
    assert (ended, peer.link.refused) == ([7, 8, 9], {7, 8})


def test_frames_may_arrive_in_pieces(peer: Peer) -> None:
    peer.link.submit(7)
    peer.link.send()
    reply = struct.pack(">IBI", 4 << 8 | HEADERS, 5, 1) + b"done"
    for start in range(0, len(reply) - 2, 2):
        peer.socket.sendall(reply[start : start + 2])
        assert peer.pump() == []
    peer.socket.sendall(reply[-1:] if len(reply) % 2 else reply[-2:])
    assert peer.pump() == [7]


def test_a_ping_is_answered(peer: Peer) -> None:
    peer.write(PING, 0, 0, b"12345678")
    peer.pump()
    assert peer.read() == (PING, 1, 0, b"12345678")


@pytest.mark.parametrize(("kind", "stream"), [(RST_STREAM, 1), (GOAWAY, 0)])
def test_a_refusal_is_an_error(peer: Peer, kind: int, stream: int) -> None:
    peer.link.submit(7)
    peer.link.send()
    peer.write(kind, 0, stream, bytes(8))
    with pytest.raises(LoadError, match=f"frame {kind}"):
        peer.pump()


def test_a_closed_connection_is_an_error(peer: Peer) -> None:
    peer.socket.close()
    with pytest.raises(LoadError, match="closed"):
        peer.pump()
