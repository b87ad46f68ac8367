"""A recorded history: every call of several callers with each of its attempts, and every draw of the servers.

The callers' side is a list of `Call`. The servers' side is a journal: each server process appends one line for each
request that it has drawn, just before its answer is encoded, with one write(2), which a kill does not lose. Both name a
request by its id, which no other request of the history has. `History.check` holds one against the other:

* every call ended, with one answer or with the code of its last attempt, and no call has two answers;
* every answer is that of the reference, bit for bit;
* an attempt that failed has one of the codes that its fault allows;
* an answered request was drawn, and no request was drawn more often than it was sent;
* where no process was killed, a request was drawn once if it was answered, and not at all if it was not, unless
  grpcio's client has dropped the answer (`CUT`).
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.config import LimitsConfig
from samplerd_server.sampling.capabilities import capabilities
from samplerd_server.sampling.reference import pipeline as reference
from samplerd_server.transport.codec.decode import Decoder
from tests.support.requests import tensor

OK = "OK"
ALONE, TOGETHER = "client", "together"
"""The calls of our client: each in a message of its own, or several in one, whose id is then 0."""
CUT = "CUT"
"""In the place of a code: grpcio's client was writing to a stream when that ended, and dropped what it had not read."""
CASES = 24
LARGE_SEEDS = 3
LARGE_SAMPLES = 12_000
"""Samples of a large draw, which is answered in chunks (`CHUNK_SAMPLES`)."""
CHUNK_SAMPLES = 2_000
WORDS = "history-words"
"""The distribution that large draws are of."""

_JOURNAL = """
import os, sys, time
while not hasattr(sys.modules.get("samplerd_server.app.app"), "App"):
    time.sleep(0.005)
import samplerd_server.transport.rpc.large_draws as large
import samplerd_server.transport.rpc.messages as messages
import samplerd_server.transport.rpc.service as service
journal = os.open({path!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
def note(request):
    os.write(journal, b"%d %d\\n" % (request.id, request.rows))
def encode(request, result, own=service.encode):
    note(request)
    return own(request, result)
def chunks(self, request, result, own=messages.SampleMessages.encode):
    note(request)
    return own(self, request, result)
service.encode = encode
messages.SampleMessages.encode = chunks
os.write(journal, b"ready 0\\n")
"""


def digest(samples: Iterable[int] | bytes) -> str:
    """A short name of an answer's samples."""
    data = samples if isinstance(samples, bytes) else np.fromiter(samples, "<i4").tobytes()
    return hashlib.sha256(data).hexdigest()[:16]


class Case:
    """A seeded request with the digest of the answer that the reference gives."""

    def __init__(self, number: int) -> None:
        rng = np.random.default_rng(number)
        self.rows = int(rng.integers(1, 4))
        self.logits = rng.normal(0, 3, (self.rows, 50)).astype(np.float32)
        self.options: dict[str, Any] = {"num_samples": int(rng.integers(1, 5)), "seed": number}
        self.temperature = float(rng.choice([0.0, 0.7, 1.0]))
        self.top_p = float(rng.choice([0.8, 1.0]))
        decoded = Decoder(limits=LimitsConfig(), capabilities=capabilities()).decode_bytes(
            self.request().SerializeToString()
        )
        drawn = reference.sample(decoded)
        self.expected = digest(sampled for row in drawn for sampled in row.samples)

    def request(self, **fields: Any) -> pb.SampleRequest:
        """The request, of rows that it carries unless `fields` name a distribution."""
        if "distribution" not in fields:
            fields["tensor"] = tensor(self.logits)
        params = pb.SamplingParams(temperature=self.temperature, top_p=self.top_p)
        return pb.SampleRequest(params=params, **self.options, **fields)


@dataclass(slots=True)
class Call:
    """What one caller asked for, and what came of it."""

    kind: str
    id: int
    rows: int
    expected: str
    """Digest of the only right answer."""
    attempts: list[str] = field(default_factory=list)
    """The code of each attempt that has ended; the last one is the call's."""
    is_over: bool = False
    """Whether its caller was told how it ended."""
    answers: list[str] = field(default_factory=list)
    """Digest of each complete answer that came."""


@dataclass(slots=True)
class Drawn:
    """What the servers drew, by the id of the request; 0 is that of all requests in which calls travel together."""

    times: Counter[int] = field(default_factory=Counter)
    rows: Counter[int] = field(default_factory=Counter)


class Journal:
    """The draws of all server processes that were started with `code` injected."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.code = _JOURNAL.format(path=str(path))

    def ready(self) -> int:
        """How many processes have begun to write."""
        return self._path.read_text().count("ready") if self._path.exists() else 0

    def drawn(self) -> Drawn:
        """What was drawn until now."""
        drawn = Drawn()
        for line in self._path.read_text().splitlines():
            name, rows = line.split()
            if name != "ready":
                drawn.times[int(name)] += 1
                drawn.rows[int(name)] += int(rows)
        return drawn


class History:
    """All calls, in the order in which they began."""

    def __init__(self) -> None:
        self.cases = [Case(number) for number in range(CASES)]
        self.calls: list[Call] = []
        self.large: dict[int, str] = {}
        """Digest of each large draw by its seed, as an undisturbed server gives it."""
        self.faults: list[str] = []
        """What contradicts the laws, as it is found."""
        self._ids = itertools.count(1)

    def begin(self, kind: str, case: Case | None = None, *, seed: int = 0) -> Call:
        """Record a call that begins: a case, or else a large draw."""
        rows, expected = (1, self.large.get(seed, "")) if case is None else (case.rows, case.expected)
        call = Call(kind, next(self._ids), rows, expected)
        self.calls.append(call)
        return call

    def answered(self) -> int:
        """How many calls have an answer."""
        return sum(bool(call.answers) for call in self.calls)

    def lost(self) -> list[str]:
        """Calls of our client, which tries again, that have ended without an answer."""
        return [
            f"our client lost {call.kind} {call.id}: {call.attempts}"
            for call in self.calls
            if call.kind in {ALONE, TOGETHER} and call.is_over and not call.answers
        ]

    def check(self, drawn: Drawn, *, codes: Mapping[str, set[str]], killed: bool) -> list[str]:
        """What contradicts the laws.

        Args:
            drawn: what the servers drew.
            codes: with which codes an attempt of each kind of call may fail.
            killed: whether a process was killed, which may have drawn what nobody was answered.

        """
        faults = list(self.faults)
        for call in self.calls:
            what = f"{call.kind} {call.id}: {call.attempts}"
            failed = {code for code in call.attempts if code != OK}
            if not call.attempts or not call.is_over:
                faults.append(f"{what}: it has not ended")
            elif call.answers != [call.expected] * (call.attempts[-1] == OK):
                faults.append(f"{what}: answers {call.answers}, the reference gives {call.expected}")
            if not failed <= codes.get(call.kind, set()):
                faults.append(f"{what}: only {codes.get(call.kind, set())} may be")
            times, is_ok = drawn.times[call.id], bool(call.answers)
            may_be_lost = killed or any(code.startswith(CUT) for code in call.attempts)
            if call.kind != TOGETHER and (times < is_ok or times > (len(call.attempts) if may_be_lost else is_ok)):
                faults.append(f"{what}: it was drawn {times} times")
        together = sum(call.rows for call in self.calls if call.kind == TOGETHER and call.answers)
        if drawn.rows[0] < together or (drawn.rows[0] > together and not killed):
            faults.append(f"{drawn.rows[0]} rows were drawn together, and {together} answered")
        if strangers := set(drawn.times) - {0} - {call.id for call in self.calls}:
            faults.append(f"nobody asked for {sorted(strangers)[:5]}")
        return faults

    def summary(self, drawn: Drawn) -> dict[str, Any]:
        """Counts of calls, attempts and rows."""
        attempts = Counter((call.kind, code) for call in self.calls for code in call.attempts)
        lost = Counter((call.kind, *call.attempts[-1:]) for call in self.calls if not call.answers)
        return {
            "calls": dict(Counter(call.kind for call in self.calls)),
            "attempts": {" ".join(key): count for key, count in sorted(attempts.items())},
            "calls_without_an_answer": {" ".join(key): count for key, count in sorted(lost.items())},
            "rows_answered": sum(call.rows for call in self.calls if call.answers),
            "rows_drawn": drawn.rows.total(),
            "rows_that_may_be_cut": sum(
                call.rows for call in self.calls for code in call.attempts if code.startswith(CUT)
            ),
        }
