"""The commands of samplerd-ray."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from samplerd_ray import cluster
from samplerd_ray.cluster import RayError
from samplerd_ray.directory import starting_text
from samplerd_ray.endpoints import endpoints_text, replace_file, servers_text, targets_text
from samplerd_ray.uploads import read_upload

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

__all__ = ["COMMANDS", "RayError"]

_LOOK_S = 0.25
"""How often `up` looks whether the addresses have changed."""


def _up(args: argparse.Namespace) -> int:
    """Deploy, and write the files at every change, until a signal comes."""
    end = threading.Event()
    cluster.connect(args.address)
    # After ray.init, which sets handlers of its own.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: end.set())
    least = args.replicas if args.autoscale is None else args.autoscale[0]
    cluster.deploy(
        cluster.Fleet(
            least=least,
            most=args.replicas if args.autoscale is None else args.autoscale[1],
            scale_up_s=args.scale_up_after,
            scale_down_s=args.scale_down_after,
            cpus=args.cpus,
            gpus=args.gpus,
            shows_metrics=args.targets is not None,
            program=args.samplerd,
            flags=tuple(args.flags),
        )
    )
    known: list[str] | None = None
    told: set[str] = set()
    while not end.wait(_LOOK_S):
        try:
            places = cluster.ask("places")
            addresses = [own["address"] for own in places]
            # Why replicas do not start.
            trouble = cluster.trouble() if len(addresses) < least else ""
            starting = starting_text(cluster.ask("starting").values()) if len(addresses) < least else ""
        except cluster.NotStartedError:
            _say("samplerd-ray down has stopped them")
            _write(args)
            return 0
        except RayError as error:
            # The directory is started again, and the replicas tell it where they are: the files stay as they are.
            _say(f"the directory does not answer: {type(error).__name__}")
            continue
        if addresses != known:
            known = addresses
            _write(args, addresses, [own["metrics"] for own in places])
            _say(f"{len(addresses)} serve: {', '.join(addresses) or 'none'}")
        for text in (starting, trouble):
            if text and text not in told:
                _say(text)
        told = {starting, trouble}
    _say("stopping")
    cluster.shut_down()
    _write(args)
    return 0


def _write(args: argparse.Namespace, addresses: Sequence[str] = (), metrics: Sequence[str] = ()) -> None:
    if args.endpoints is not None:
        replace_file(Path(args.endpoints), endpoints_text(addresses, time.time_ns()))
    if args.servers is not None:
        replace_file(Path(args.servers), servers_text(addresses))
    if args.targets is not None:
        replace_file(Path(args.targets), targets_text(metrics))


def _status(args: argparse.Namespace) -> int:
    """List the replicas."""
    cluster.connect(args.address)
    places, kept, starting = cluster.ask("places"), cluster.ask("kept"), cluster.ask("starting")
    if args.json:
        found = {
            "replicas": places,
            "starting": starting,
            "distributions": kept,
            "directory_node": cluster.ask("node"),
        }
        sys.stdout.write(json.dumps(found) + "\n")
        return 0
    for own in places:
        sys.stdout.write(
            f"{own['address']}  node {own['node'][:12]}  samplerd {own['samplerd_pid']}  metrics {own['metrics']}\n"
        )
    for name, size in kept.items():
        holding = sum(name in own["distributions"] for own in places)
        sys.stdout.write(f"{name}  {size} bytes, held by {holding} of {len(places)}\n")
    _say("; ".join(filter(None, (f"{len(places)} serve", starting_text(starting.values())))))
    return 0


def _upload(args: argparse.Namespace) -> int:
    """Keep distributions for all replicas; returns once every replica that serves holds them."""
    read = [read_upload(path) for path in args.files]
    cluster.connect(args.address)
    for name, request in read:
        version = cluster.ask("keep", name, request)
        while True:
            found = cluster.ask("holders", name, version)
            if found["refusal"]:
                cluster.ask("forget", name)
                raise ValueError(f"{name}: a replica refused it: {found['refusal']}")
            if found["replicas"] == found["holding"]:
                break
            time.sleep(_LOOK_S)
        _say(f"{name}: held by {found['holding']} of {found['replicas']} that serve")
    return 0


def _forget(args: argparse.Namespace) -> int:
    """Let every replica delete distributions."""
    cluster.connect(args.address)
    for name in args.names:
        if not cluster.ask("forget", name):
            raise ValueError(f"{name}: no such distribution is kept")
    return 0


def _down(args: argparse.Namespace) -> int:
    """Stop the replicas."""
    cluster.connect(args.address)
    cluster.ask("places")
    cluster.shut_down()
    return 0


def _say(text: str) -> None:
    sys.stderr.write(f"samplerd-ray: {text}\n")
    sys.stderr.flush()


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "up": _up,
    "status": _status,
    "upload": _upload,
    "forget": _forget,
    "down": _down,
}
