"""Ray Serve: one replica behind its gRPC proxy; batches of at most 64, gathered for at most 2 ms."""

from __future__ import annotations

import signal
import sys
import threading

import numpy as np
import ray
import torch
from ray import serve
from ray.serve.config import gRPCOptions

sys.path.insert(0, sys.argv[2])  # the generated stubs
import sampler_pb2


@serve.deployment(num_replicas=1, max_ongoing_requests=1000, ray_actor_options={"num_cpus": 0})
class Sampler:
    """Draws one id from each request's row."""

    def __init__(self) -> None:
        torch.set_num_threads(1)

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.002)
    async def draw(self, requests: list[sampler_pb2.Request]) -> list[sampler_pb2.Reply]:
        """Draw, a batch at a time."""
        logits = torch.from_numpy(np.stack([np.frombuffer(request.logits, "<f4") for request in requests]))
        temperature = torch.tensor([request.temperature for request in requests]).unsqueeze(1)
        drawn = torch.multinomial(torch.softmax(logits / temperature, -1), 1).squeeze(1).tolist()
        return [sampler_pb2.Reply(id=one.to_bytes(4, "little")) for one in drawn]

    async def Sample(self, request: sampler_pb2.Request) -> sampler_pb2.Reply:  # noqa: N802  # the method of the proto
        """Answer one call."""
        return await self.draw(request)


if __name__ == "__main__":
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    ray.init(
        num_cpus=2,
        _node_ip_address="127.0.0.1",
        include_dashboard=False,
        _temp_dir=sys.argv[3],
        runtime_env={"env_vars": {"PYTHONPATH": sys.argv[2], "OMP_NUM_THREADS": "1"}},
    )
    serve.start(
        proxy_location="HeadOnly",
        http_options={"host": "127.0.0.1", "port": int(sys.argv[4])},  # nobody calls it
        grpc_options=gRPCOptions(
            port=int(sys.argv[1]), grpc_servicer_functions=["sampler_pb2_grpc.add_SamplerServicer_to_server"]
        ),
    )
    serve.run(Sampler.bind(), name="sampler", route_prefix="/sampler")  # type: ignore[attr-defined]  # the decorator's
    print("serving", flush=True)
    stopped.wait()
    serve.shutdown()
    ray.shutdown()
