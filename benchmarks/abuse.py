"""What hostile or broken clients take of a server, by hand-made frames: memory, and how long another caller waits.

Each kind of abuse has a bound in bytes by which the server's processes may grow, and one in seconds for the slowest
call of a polite caller meanwhile. The result says what was measured; the exit status is 1 if a bound was passed.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import socket
import struct
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import hpack

from benchmarks.report import machine, write_json
from benchmarks.servers import SamplerServer
from samplerd.v1 import sampler_pb2 as pb
from samplerd.v1 import sampler_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["ABUSES", "Abuse", "Hostile", "main", "measure"]

RESULTS = Path(__file__).parent / "results" / "trust"
MIB = 1 << 20
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _CONTINUATION = 0, 1, 3, 4, 6, 9
_END_HEADERS = 4
_ENDED = 1
_SERVICE = "/samplerd.v1.SamplerService/"
_WAIT_S = 60.0
_KEEPALIVE_S = 10.0
_PING_TIMEOUT_S = 20.0
"""Seconds after which both transports close a connection that does not answer a ping."""
_CALLS, _QUIET_CALLS = 10, 25
"""Polite calls before the abuse; and those in which the server must not grow until the measurement is over."""
_RETRY_S = 0.1
_MOST_POLITE_S = 5.0
"""Most seconds that a call of a polite caller may take meanwhile."""
_FILES = 15_000
"""Descriptors that this process and the server may have."""


class Hostile:
    """A connection that says what it likes, and reads nothing unless it is asked to."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), _WAIT_S)
        self._encoder = hpack.Encoder()
        self._stream = -1
        self.is_cut = False
        """Whether the server has ended the connection."""

    def __enter__(self) -> Hostile:
        """Use it until the end of a block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self._socket.close()

    def fileno(self) -> int:
        """Give the descriptor."""
        return self._socket.fileno()

    def send(self, data: bytes, timeout_s: float = _WAIT_S) -> bool:
        """Send bytes; False once the server has cut the connection, or has not taken them in time."""
        self._socket.settimeout(timeout_s)
        try:
            self._socket.sendall(data)
        except TimeoutError:
            return False
        except OSError:
            self.is_cut = True
            return False
        return True

    def frame(self, kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
        """Lay out a frame."""
        return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload

    def greet(self, window: int = 65_535) -> bool:
        """Begin HTTP/2 and take the server's settings, which hold from then on; False once the connection is cut.

        Args:
            window: bytes of a stream that the server may send ahead.

        """
        if not self.send(_PREFACE + self.frame(_SETTINGS, 0, 0, struct.pack(">HI", 4, window))):
            return False
        with contextlib.suppress(OSError):
            self._socket.recv(1 << 16)
        return self.send(self.frame(_SETTINGS, 1, 0))

    def call(self, method: str, *extra: tuple[str, str]) -> tuple[int, bytes]:
        """Begin a call: gives the number of its stream, and the frame of its headers."""
        self._stream += 2
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", _SERVICE + method),
            (":authority", "samplerd"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            *extra,
        ]
        block: bytes = self._encoder.encode(headers)
        return self._stream, self.frame(_HEADERS, _END_HEADERS, self._stream, block)

    def wait_pong(self) -> None:
        """Read until the server answers a ping of eight zeros.

        Raises:
            OSError: it has not answered in time.

        """
        self._socket.settimeout(_WAIT_S)
        seen = b""
        while (pong := self.frame(_PING, 1, 0, bytes(8))) not in seen:
            data = self._socket.recv(1 << 16)
            if not data:
                raise ConnectionError("the connection was cut")
            seen = seen[-len(pong) :] + data

    def wait_cut(self, timeout_s: float) -> bool:
        """Read, and answer nothing, until the server ends the connection; False if it has not in time."""
        end = time.monotonic() + timeout_s
        while (left := end - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                if not self._socket.recv(1 << 16):
                    return True
            except TimeoutError:
                return False
            except OSError:
                return True
        return False


@dataclass
class Bout:
    """A server under abuse."""

    port: int
    scale: float
    """Of the numbers that a kind of abuse uses by itself."""
    told: dict[str, Any] = field(default_factory=dict)
    """What is stored beside memory and time."""
    faults: list[str] = field(default_factory=list)
    """What the server should have done."""

    def many(self, number: int) -> int:
        """Scale a number."""
        return max(1, round(number * self.scale))


@dataclass(frozen=True)
class Abuse:
    """One kind of abuse and its bound."""

    run: Callable[[Bout, contextlib.ExitStack], None]
    """Abuses the server; what it opens stays open until the measurement is over."""
    grows: int
    """Most bytes by which the server's processes may grow, together."""


def idle_connections(bout: Bout, stack: contextlib.ExitStack) -> None:
    """Open connections that begin HTTP/2 and say nothing more, and as many that never say anything."""
    number = bout.many(5_000)
    for at in range(number):
        own = stack.enter_context(Hostile(bout.port))
        if at % 2:
            own.greet()
    bout.told["connections"] = number


def resets(bout: Bout, stack: contextlib.ExitStack) -> None:
    """Reset calls as soon as they begin."""
    own = stack.enter_context(Hostile(bout.port))
    own.greet()
    sent = 0
    for _ in range(bout.many(50_000)):
        stream, headers = own.call("Sample")
        if not own.send(headers + own.frame(_RESET, 0, stream, struct.pack(">I", 8))):
            break
        sent += 1
    bout.told |= {"resets": sent, "was_cut": own.is_cut}


def announced_lengths(bout: Bout, stack: contextlib.ExitStack) -> None:
    """Announce messages of a GiB each, and send the first bytes of them."""
    own = stack.enter_context(Hostile(bout.port))
    own.greet()
    body = struct.pack(">BI", 0, 1 << 30) + bytes(16)
    for _ in range(bout.many(2_000)):
        stream, headers = own.call("Sample")
        if not own.send(headers + own.frame(_DATA, 0, stream, body)):
            break
    bout.told["was_cut"] = own.is_cut


def slow_writers(bout: Bout, stack: contextlib.ExitStack) -> None:
    """Send the message of a call byte by byte, on many connections, and never its end."""
    connections = [stack.enter_context(Hostile(bout.port)) for _ in range(bout.many(500))]
    for own in connections:
        own.greet()
        stream, headers = own.call("Sample")
        own.send(headers + own.frame(_DATA, 0, stream, struct.pack(">BI", 0, 3 * MIB)))
    for _ in range(20):
        for own in connections:
            own.send(own.frame(_DATA, 0, 1, b"x"))
    bout.told["connections"] = len(connections)


def half_messages(bout: Bout, stack: contextlib.ExitStack) -> None:
    """Send halves of large messages, on many connections: as many bytes as the server takes."""
    half = struct.pack(">BI", 0, 4 * MIB)
    sent = 0
    for _ in range(bout.many(128)):
        own = stack.enter_context(Hostile(bout.port))
        own.greet()
        stream, headers = own.call("Sample")
        data = headers + own.frame(_DATA, 0, stream, half)
        data += b"".join(own.frame(_DATA, 0, stream, bytes(1 << 14)) for _ in range(128))
        sent += len(data) if own.send(data, 0.2) else 0
    bout.told["bytes_taken"] = sent


def slow_readers(bout: Bout, stack: contextlib.ExitStack) -> None:
    """Ask on many streams for far more than the window of their client, which never reads."""
    tensor = pb.Tensor(vocab_size=4, data=bytes(16))
    message = pb.SampleRequest(num_samples=1 << 20, seed=1, tensor=tensor).SerializeToString()
    framed = struct.pack(">BI", 0, len(message)) + message
    connections = bout.many(100)
    for _ in range(connections):
        own = stack.enter_context(Hostile(bout.port))
        own.greet()
        stream, headers = own.call("SampleStream")
        own.send(headers + own.frame(_DATA, 0, stream, framed * 4))
    bout.told["connections"] = connections


def half_open(bout: Bout, stack: contextlib.ExitStack) -> None:
    """Hold calls open as peers do that have vanished without a word: they answer no ping."""
    connections = [stack.enter_context(Hostile(bout.port)) for _ in range(bout.many(200))]
    for own in connections:
        own.greet()
        own.send(own.call("SampleStream")[1])
    began = time.monotonic()
    bout.told["connections"] = len(connections)
    bout.told["closed"] = sum(
        own.wait_cut(began + _KEEPALIVE_S + _PING_TIMEOUT_S + 20 - time.monotonic()) for own in connections
    )
    bout.told["closed_after_s"] = round(time.monotonic() - began, 1)
    if bout.told["closed"] < len(connections):
        bout.faults.append("half-open connections were kept")


def oversize_metadata(bout: Bout, stack: contextlib.ExitStack) -> None:
    """Send more metadata than a server takes, in headers that do not end."""
    for _ in range(bout.many(40)):
        own = stack.enter_context(Hostile(bout.port))
        own.greet()
        stream, headers = own.call("Sample", ("x-large", "x" * 15_000))
        part = b"\x00\x01a\x7f\x81\x7e" + b"x" * 16_256  # a literal header, not to be remembered
        data = headers[:4] + bytes((0,)) + headers[5:]  # it does not end the headers
        data += b"".join(own.frame(_CONTINUATION, 0, stream, part) for _ in range(256))
        own.send(data, 1.0)
    bout.told["connections"] = bout.many(40)


def pings(bout: Bout, stack: contextlib.ExitStack) -> None:
    """Send pings whose answers nobody reads."""
    own = stack.enter_context(Hostile(bout.port))
    own.greet()
    many = b"".join(own.frame(_PING, 0, 0, struct.pack(">Q", number)) for number in range(1_000))
    for _ in range(bout.many(2_000)):
        if not own.send(many, 1.0):
            break
    bout.told["was_cut"] = own.is_cut


FLAGS = ("--incoming-bytes", str(64 * MIB), "--keepalive", f"{_KEEPALIVE_S:g}s")
"""Settings of the server that is abused."""
ABUSES: dict[str, Abuse] = {
    "idle_connections": Abuse(idle_connections, grows=512 * MIB),
    "announced_lengths": Abuse(announced_lengths, grows=128 * MIB),
    "pings": Abuse(pings, grows=128 * MIB),
    "slow_writers": Abuse(slow_writers, grows=128 * MIB),
    "resets": Abuse(resets, grows=512 * MIB),
    "oversize_metadata": Abuse(oversize_metadata, grows=256 * MIB),
    "half_open": Abuse(half_open, grows=128 * MIB),
    # The replies that `--reply-bytes` lets wait by default. Results that are drawn, and are then refused, leave holes
    # between them that the allocator keeps: 70 MiB were seen where all else took 975 MiB.
    "slow_readers": Abuse(slow_readers, grows=(1024 + 64) * MIB),
    "half_messages": Abuse(half_messages, grows=1024 * MIB),
}
"""By name, in the order in which one server suffers them: those that take most memory last."""


class _Polite:
    """A caller that keeps to the rules all the while, and the server's memory as it sees it."""

    def __init__(self, server: SamplerServer) -> None:
        self._server = server
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._call)
        self.calls, self.retries, self.slowest_s, self.most_bytes = 0, 0, 0.0, 0
        self.failures: list[str] = []

    def __enter__(self) -> _Polite:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _call(self) -> None:
        with grpc.insecure_channel(f"127.0.0.1:{self._server.port}") as channel:
            stub = sampler_pb2_grpc.SamplerServiceStub(channel)
            request = pb.SampleRequest(seed=1, tensor=pb.Tensor(vocab_size=2, data=bytes(8)))
            while not self._over.wait(0.01):
                began = time.monotonic()
                try:
                    self._call_once(stub, request)
                except grpc.RpcError as error:
                    self.failures.append(str(error)[:200])
                self.calls += 1
                self.slowest_s = max(self.slowest_s, time.monotonic() - began)
                self.most_bytes = max(self.most_bytes, self._server.rss_bytes())

    def _call_once(self, stub: Any, request: pb.SampleRequest) -> None:
        """Make a call; tries again, as the clients do, when grpcio's core drops it because too many wait."""
        end = time.monotonic() + _WAIT_S
        while True:
            try:
                stub.Sample(request, timeout=_WAIT_S, wait_for_ready=True)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.CANCELLED or time.monotonic() > end:
                    raise
                self.retries += 1
                time.sleep(_RETRY_S)
            else:
                return

    def see(self, calls: int) -> None:
        """Wait until it has made so many more calls."""
        wanted = self.calls + calls
        while self.calls < wanted:
            time.sleep(0.01)

    def see_no_growth(self) -> None:
        """Wait until the server has not grown for a while, but not for ever."""
        end, seen = time.monotonic() + _WAIT_S, -1
        while seen < self.most_bytes and time.monotonic() < end:
            seen = self.most_bytes
            self.see(_QUIET_CALLS)


def measure(server: SamplerServer, name: str, scale: float = 1.0, patience: float = 1.0) -> dict[str, Any]:
    """Abuse a server that was started with `FLAGS` in one way; returns what was seen, and the bounds.

    Args:
        server: the server; it goes on.
        name: of the abuse.
        scale: times the usual numbers.
        patience: times the seconds that a polite call may take.

    """
    abuse = ABUSES[name]
    most_polite_s = _MOST_POLITE_S * patience
    bout = Bout(port=server.port, scale=scale)
    with _Polite(server) as polite, contextlib.ExitStack() as stack:
        polite.see(_CALLS)
        before, polite.slowest_s, polite.most_bytes = server.rss_bytes(), 0.0, 0
        began, cpu_s = time.monotonic(), server.cpu_s()
        abuse.run(bout, stack)
        took_s = time.monotonic() - began
        polite.see_no_growth()
        cpu_s = server.cpu_s() - cpu_s
    grown = max(0, polite.most_bytes - before)
    faults = [*bout.faults, *polite.failures[:3]]
    if grown > abuse.grows:
        faults.append(f"grew by {grown} bytes, more than {abuse.grows}")
    if polite.slowest_s > most_polite_s:
        faults.append(f"a polite call took {polite.slowest_s:.2f} s, more than {most_polite_s}")
    return {
        **bout.told,
        "seconds": round(took_s, 2),
        "server_cpu_s": round(cpu_s, 2),
        "bytes_before": before,
        "grown_bytes": grown,
        "most_grown_bytes": abuse.grows,
        "polite_calls": polite.calls,
        "polite_retries": polite.retries,
        "slowest_polite_s": round(polite.slowest_s, 3),
        "most_polite_s": most_polite_s,
        "faults": faults,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run every kind of abuse against one transport, and store what was seen; returns 1 if a bound was passed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.abuse", description=__doc__)
    parser.add_argument("--transport", choices=("grpcio", "envoy"), default="grpcio")
    parser.add_argument("--only", choices=sorted(ABUSES), action="append", help="this one; may be repeated")
    parser.add_argument("--scale", type=float, default=1.0, help="times the usual numbers (1)")
    parser.add_argument("--note", default="", help="stored with the result: what else the machine did")
    options = parser.parse_args(arguments)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES, _FILES))
    told = {**machine(), "command": "python -m benchmarks.abuse " + " ".join(arguments or sys.argv[1:])}
    seen = {}
    with SamplerServer(*FLAGS, transport=options.transport) as server:
        for name in options.only or ABUSES:
            seen[name] = measure(server, name, options.scale)
            print(name, seen[name], flush=True)
        seen["end"] = {
            "bytes": server.rss_bytes(),
            "faults": [f"exit status {code}"] if (code := server.stop()) else [],
        }
    result = {"machine": told, "note": options.note, "transport": options.transport, "abuses": seen}
    if not options.only:
        print(write_json(RESULTS, f"abuse_{options.transport}", result))
    return int(any(own["faults"] for own in seen.values()))


if __name__ == "__main__":
    sys.exit(main())
