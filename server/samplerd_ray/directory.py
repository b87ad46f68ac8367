"""The directory: which replicas serve, where, and which distributions each must hold. One actor of Ray holds it.

Rule 1: a replica is listed while it tells of itself. One that is not heard of for `SILENT_S` is left out until it is
heard again. Rule 2: time comes from the caller, and so does what stores bytes: this class knows nothing of Ray.

A kept distribution has a version, new at every upload. A replica says which versions it holds, and is told what it
lacks and what was forgotten. What the directory does not know, it leaves alone: after a restart it knows nothing.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["MOST_KEPT_BYTES", "SILENT_S", "TELL_S", "Directory", "Holders", "Place", "starting_text"]

TELL_S = 0.5
"""A replica tells of itself this often."""
SILENT_S = 5.0
"""Ten times that: a busy node is late now and then, and Envoy's own health checks see a dead server before this."""
MOST_KEPT_BYTES = 1 << 30
"""Of all uploads together: what a samplerd holds at most, unless --distribution-bytes says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a replica is."""

    replica: str
    """Ray Serve's name of it."""
    address: str
    """host:port of gRPC."""
    metrics: str
    """host:port of /metrics, on the replica's node."""
    node: str
    """Ray's id of the node."""
    actor_pid: int
    """The process of Ray's actor, on its node."""
    samplerd_pid: int
    """The process of the server, on its node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holders:
    """How far an upload has come."""

    replicas: int
    """Replicas that serve."""
    holding: int
    """Those that hold this version."""
    refusal: str
    """What a replica said that refused it; "" = none has."""


@dataclass(slots=True)
class _Kept:
    version: int
    size: int
    stored: Any
    """What `put` made of the bytes, in a list: Ray resolves a reference that is an argument by itself."""


@dataclass(slots=True)
class _Replica:
    place: Place
    heard: float
    held: dict[str, int]
    refused: dict[str, tuple[int, str]]


class Directory:
    """Holds the places that replicas tell, and what all of them are to hold."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, put: Callable[[bytes], Any] = bytes) -> None:
        self._clock, self._put = clock, put
        self._replicas: dict[str, _Replica] = {}
        self._kept: dict[str, _Kept] = {}
        self._starting: dict[str, tuple[str, float]] = {}
        """What a samplerd does that does not serve yet, and when that was heard."""
        self._forgotten: set[str] = set()
        """Names that some replica may still hold."""

    def tell(
        self, place: dict[str, Any], held: dict[str, int], refused: dict[str, tuple[int, str]], *, is_ready: bool
    ) -> tuple[dict[str, tuple[int, list[Any]]], list[str]]:
        """Take note of a replica, and say what it lacks.

        Args:
            place: the fields of `Place`.
            held: the version of each distribution that it holds for all replicas.
            refused: the versions that its samplerd refused, each with the reason.
            is_ready: it serves, and is to be listed.

        Returns:
            The version and the stored bytes of each that it lacks, by name; and the names that it is to delete.

        """
        own = Place(**place)
        self._starting.pop(own.replica, None)
        if is_ready:
            self._replicas[own.replica] = _Replica(own, self._clock(), dict(held), dict(refused))
        lacking = {
            name: (kept.version, [kept.stored])
            for name, kept in self._kept.items()
            if kept.version not in {held.get(name), refused.get(name, (0, ""))[0]}
        }
        return lacking, [name for name in held if name in self._forgotten]

    def note_start(self, replica: str, doing: str) -> None:
        """Take note of what a samplerd does that does not serve yet."""
        self._starting[replica] = (doing, self._clock())

    def starting(self) -> dict[str, str]:
        """Say what each samplerd does that does not serve yet, by the name of its replica."""
        now = self._clock()
        return {name: doing for name, (doing, heard) in sorted(self._starting.items()) if now - heard < SILENT_S}

    def leave(self, replica: str) -> None:
        """Take a replica out that is about to end, or is not ready."""
        self._replicas.pop(replica, None)

    def places(self) -> list[dict[str, Any]]:
        """List the replicas that were heard of lately, in order of address, each with the names that it holds."""
        return [
            {**asdict(own.place), "distributions": sorted(own.held)}
            for own in sorted(self._lately(), key=lambda own: own.place.address)
        ]

    def _lately(self) -> list[_Replica]:
        """Forget the replicas that have been silent, and the forgotten names that none of the others holds."""
        now = self._clock()
        self._replicas = {name: own for name, own in self._replicas.items() if now - own.heard < SILENT_S}
        self._starting = {name: own for name, own in self._starting.items() if now - own[1] < SILENT_S}
        self._forgotten &= {name for own in self._replicas.values() for name in own.held}
        return list(self._replicas.values())

    def keep(self, name: str, request: bytes) -> int:
        """Keep a distribution for all replicas; returns its version.

        Args:
            name: its name.
            request: the CreateDistributionRequest.

        Raises:
            ValueError: the name is taken, or there is no room.

        """
        if name in self._kept:
            raise ValueError(f"{name!r} is kept already: forget it first")
        size = len(request)
        if sum(own.size for own in self._kept.values()) + size > MOST_KEPT_BYTES:
            raise ValueError(f"{name!r} has no room: all that is kept may have {MOST_KEPT_BYTES} bytes")
        version = time.time_ns()
        self._kept[name] = _Kept(version, size, self._put(request))
        self._forgotten.discard(name)
        return version

    def forget(self, name: str) -> bool:
        """Let every replica delete a distribution; whether it was kept, or held by any."""
        is_held = any(name in own.held for own in self._lately())
        if is_held:
            self._forgotten.add(name)
        return self._kept.pop(name, None) is not None or is_held

    def holders(self, name: str, version: int) -> dict[str, Any]:
        """Say how far an upload has come: the fields of `Holders`."""
        found = self._lately()
        refusals = [own.refused[name][1] for own in found if own.refused.get(name, (0, ""))[0] == version]
        holding = sum(own.held.get(name) == version for own in found)
        return asdict(Holders(replicas=len(found), holding=holding, refusal=refusals[0] if refusals else ""))

    def kept(self) -> dict[str, int]:
        """Return the bytes of each kept distribution, by name."""
        return {name: own.size for name, own in sorted(self._kept.items())}


def starting_text(doing: Iterable[str]) -> str:
    """Say what samplerds do that do not serve yet; "" where there are none."""
    counted = sorted(Counter(doing).items())
    return "; ".join(f"{number} not serving yet ({what})" for what, number in counted)
