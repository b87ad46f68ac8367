"""A Ray cluster of two nodes on this machine: prints its address and the nodes' ids, and kills a node when told to.

Run by Ray's own Python. Lines on standard input: ``kill NODE_ID`` (the node's own processes), answered by ``ok``;
``end``, or the end of the input, ends the cluster. Ray takes 127.0.0.1 for a name of the address that other machines
know; 127.0.0.2 and 127.0.0.3 are on the loopback device, too.
"""

from __future__ import annotations

import os
import sys

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# Ray gives its workers, and so their samplerds, a low priority unless it is told otherwise.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  # Ray's own spelling

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
            what, _, which = line.strip().partition(" ")
            if what == "kill":
                [node] = [one for one in nodes if one.node_id == which]
                cluster.remove_node(node, allow_graceful=False)
            elif what == "end":
                break
            print("ok", flush=True)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
