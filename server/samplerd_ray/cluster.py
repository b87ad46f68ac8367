"""What Ray runs: the actor of the directory, and the deployment of replicas. The only module that imports ray."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import Any

# It sends statistics of use to its makers unless this says no; an operator's own setting counts.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Of a cluster that is started here. A samplerd has the priority of its replica, which Ray makes low (nice 15).
os.environ.setdefault("RAY_worker_niceness", "0")
# Ray Serve passes loads on every 10 s by default.
os.environ.setdefault("RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S", "2")

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from samplerd_ray.autoscaling import LOAD
from samplerd_ray.directory import Directory
from samplerd_ray.replica import Replica
from samplerd_ray.server_process import StartError

__all__ = [
    "Fleet",
    "NotStartedError",
    "RayError",
    "SamplerdReplica",
    "ask",
    "connect",
    "deploy",
    "shut_down",
    "trouble",
]

APPLICATION = "samplerd"
NAMESPACE = "samplerd"
_DIRECTORY = "samplerd-directory"
_HEAD = "node:__internal_head__"
"""A resource that Ray gives to the head of a cluster alone."""
_OBJECT_STORE_BYTES = 100_000_000
"""Of a cluster that the command starts for itself; Ray's own default is 30 % of the machine's memory."""
_HEALTH_S = 1.0
_HEALTH_TIMEOUT_S = 5.0
_MEASURE_S = 2.0
_ASK_S = 60.0
_LONGEST = 400
"""Characters of a line of Ray Serve's that are told."""
_GRACE_S = 30.0
"""Longer than samplerd's --drain-delay and --drain-grace together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """What is to be kept running."""

    least: int
    """The fewest replicas."""
    most: int
    """The most; as many as `least` where nothing is scaled."""
    scale_up_s: float
    """How long more must be wanted before there are more."""
    scale_down_s: float
    cpus: float
    """Of each replica."""
    gpus: float
    shows_metrics: bool
    """Whether metrics are served on the node's address; otherwise on loopback."""
    program: str | None
    """Path of samplerd; None = that of Ray's Python."""
    flags: tuple[str, ...]
    """Of samplerd."""


def connect(address: str) -> None:
    """Connect to a cluster, or start one on this machine for as long as this process runs.

    Raises:
        ConnectionError: there is none, or none could be started.

    """
    ray.logger.setLevel("WARNING")
    own: dict[str, Any] = {}
    if address == "local":
        own = {
            "include_dashboard": False,
            # Ray takes 127.0.0.1 for a name of the address that other machines know.
            "_node_ip_address": "127.0.0.2",
            "object_store_memory": _OBJECT_STORE_BYTES,
        }
    try:
        ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, configure_logging=False, **own)
    except ConnectionError:
        raise
    except Exception as error:  # Ray raises many kinds, and bare ones
        # It waits for 30 s for its own processes, which may be too little on a busy machine.
        why = " ".join(str(error).split())[:_LONGEST]
        raise ConnectionError(f"Ray did not {'start' if own else f'answer at {address}'}: {why}") from error


class NotStartedError(ValueError):
    """There is no directory on the cluster, since `deploy` was not called there, or `shut_down` was."""


class _DirectoryActor(Directory):
    """The directory, whose uploads lie in the object store: every node that needs one has one copy."""

    def __init__(self) -> None:
        super().__init__(put=ray.put)

    def node(self) -> str:
        """Return Ray's id of the node that this actor is on."""
        return str(ray.get_runtime_context().get_node_id())


class _RemoteDirectory:
    """The directory as `replica.Directory`."""

    def __init__(self) -> None:
        self._actor = ray.get_actor(_DIRECTORY, namespace=NAMESPACE)

    async def tell(
        self, place: dict[str, Any], held: dict[str, int], refused: dict[str, tuple[int, str]], *, is_ready: bool
    ) -> tuple[dict[str, tuple[int, list[Any]]], list[str]]:
        found: tuple[dict[str, tuple[int, list[Any]]], list[str]]
        found = await self._actor.tell.remote(place, held, refused, is_ready=is_ready)
        return found

    async def fetch(self, stored: list[Any]) -> bytes:
        [reference] = stored
        return bytes(await reference)

    async def note_start(self, replica: str, doing: str) -> None:
        await self._actor.note_start.remote(replica, doing)

    async def leave(self, replica: str) -> None:
        await self._actor.leave.remote(replica)


class SamplerdReplica:
    """The deployment: Ray Serve makes one for each replica, and asks it for its health."""

    async def __init__(  # type: ignore[misc]  # Ray Serve awaits it
        self, program: str | None, cpus: float, flags: tuple[str, ...], *, shows_metrics: bool
    ) -> None:
        context = ray.get_runtime_context()
        self._replica = Replica(
            name=serve.get_replica_context().replica_tag,
            node=context.get_node_id(),
            host=ray.util.get_node_ip_address(),
            directory=_RemoteDirectory(),
        )
        await self._replica.start(program, cpus, flags, shows_metrics=shows_metrics)

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Report the load, for the policy of `autoscaling`; Ray Serve asks at every `_MEASURE_S`."""
        return {LOAD: await self._replica.load()}

    async def check_health(self) -> None:
        """Say that this replica must be replaced, by raising."""
        await self._replica.check_health()

    async def __del__(self) -> None:
        """Drain and end: Ray Serve calls this when the replica is to go."""
        await self._replica.stop()


def deploy(fleet: Fleet) -> None:
    """Make the directory if there is none, and the replicas; returns at once."""
    # Without its head a cluster is lost anyway.
    head = next(own["NodeID"] for own in ray.nodes() if own["Alive"] and _HEAD in own["Resources"])
    directory = ray.remote(_DirectoryActor).options(
        name=_DIRECTORY,
        namespace=NAMESPACE,
        num_cpus=0,
        lifetime="detached",
        get_if_exists=True,
        max_restarts=-1,
        scheduling_strategy=NodeAffinitySchedulingStrategy(head, soft=False),
    )
    ray.get(directory.remote().places.remote())
    # Of its own life, beside which the few lines of `up` would not be seen.
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    # No proxy: no request passes through Ray.
    serve.start(proxy_location="Disabled")
    deployment = serve.deployment(
        SamplerdReplica,
        name="samplerd",
        **_number(fleet),
        ray_actor_options={"num_cpus": fleet.cpus, "num_gpus": fleet.gpus},
        health_check_period_s=_HEALTH_S,
        health_check_timeout_s=_HEALTH_TIMEOUT_S,
        graceful_shutdown_timeout_s=_GRACE_S,
    )
    application = deployment.bind(fleet.program, fleet.cpus, fleet.flags, shows_metrics=fleet.shows_metrics)
    # Not serve.run, which waits until every replica serves: the caller waits, and can be stopped meanwhile.
    target = serve.RunTarget(application, name=APPLICATION, route_prefix=None)
    serve.run_many([target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)


def _number(fleet: Fleet) -> dict[str, Any]:
    """Tell Ray Serve how many replicas there are to be."""
    if fleet.least == fleet.most:
        return {"num_replicas": fleet.least}
    scaling = AutoscalingConfig(
        min_replicas=fleet.least,
        initial_replicas=fleet.least,
        max_replicas=fleet.most,
        upscale_delay_s=fleet.scale_up_s,
        downscale_delay_s=fleet.scale_down_s,
        metrics_interval_s=_MEASURE_S,
        look_back_period_s=3 * _MEASURE_S,
        policy=AutoscalingPolicy(policy_function="samplerd_ray.autoscaling:policy"),
    )
    return {"autoscaling_config": scaling}


def trouble() -> str:
    """Return what Ray Serve says of replicas that do not start; "" where it says nothing."""
    application = serve.status().applications.get(APPLICATION)
    if application is None:
        return ""
    # Its text begins with what it will do, and ends with the replica's own error below many lines of Ray's.
    texts = [application.message, *(own.message for own in application.deployments.values())]
    lines = [line.strip() for line in "\n".join(texts).splitlines() if line.strip()]
    errors = [line for line in lines[1:] if f"{StartError.__name__}: " in line]
    return " ".join(line[-_LONGEST:] for line in (*lines[:1], *errors[-1:]))


def ask(method: str, *arguments: Any) -> Any:
    """Call a method of `directory.Directory`.

    Raises:
        NotStartedError: nothing was started on this cluster.
        ValueError: the directory says no.

    """
    try:
        actor = ray.get_actor(_DIRECTORY, namespace=NAMESPACE)
    except ValueError:
        raise NotStartedError("no samplerds were started on this cluster: samplerd-ray up starts them") from None
    try:
        return ray.get(getattr(actor, method).remote(*arguments), timeout=_ASK_S)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ValueError):
            raise ValueError(str(error.cause)) from None
        raise


def shut_down() -> None:
    """Stop the replicas, and forget the directory."""
    serve.delete(APPLICATION)
    try:
        ray.kill(ray.get_actor(_DIRECTORY, namespace=NAMESPACE))
    except ValueError:
        return
