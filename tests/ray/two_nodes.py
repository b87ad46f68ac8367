"""A Ray cluster of two nodes on this machine: prints its address and the nodes' ids, and kills a node when told to.

Run by Ray's own Python. Lines on standard input: ``kill NODE_ID PID ...`` (the node's own processes, and those, which
run on it), answered by ``ok``; ``end``, or the end of the input, ends the cluster. Ray takes 127.0.0.1 for a name of
the address that other machines know; 127.0.0.2 and 127.0.0.3 are on the loopback device, too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# Ray gives its workers, and so their samplerds, a low priority unless it is told otherwise.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  # Ray's own spelling
# Until Ray knows that a node is dead, it may place the next replica there: after five checks, every 3 s by default.
os.environ["RAY_health_check_period_ms"] = "1000"  # noqa: SIM112
os.environ["RAY_health_check_timeout_ms"] = "2000"  # noqa: SIM112

from ray._private import ray_constants
from ray.cluster_utils import Cluster

STORE_BYTES = 100_000_000


def main() -> None:
    own = {"num_cpus": 1, "object_store_memory": STORE_BYTES}
    head = {**own, "node_ip_address": "127.0.0.2", "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        nodes = [cluster.head_node, cluster.add_node(**own, node_ip_address="127.0.0.3")]
        cluster.wait_for_nodes()
        print(cluster.address, *(node.node_id for node in nodes), flush=True)
        for line in sys.stdin:
            what, *rest = line.split()
            if what == "kill":
                which, *pids = rest
                [node] = [one for one in nodes if one.node_id == which]
                # The raylet first: it would tell the cluster of the others.
                [raylet] = node.all_processes[ray_constants.PROCESS_TYPE_RAYLET]
                for pid in (raylet.process.pid, *map(int, pids)):
                    with contextlib.suppress(ProcessLookupError):  # workers end when they miss their raylet
                        os.kill(pid, signal.SIGKILL)
                cluster.remove_node(node, allow_graceful=False)
            elif what == "end":
                break
            print("ok", flush=True)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
