"""Call Ray Serve with grpcio, and write the body of such a call: gRPC's prefix and the message."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import grpc

if __name__ == "__main__":
    port, logits, temperature, body, stubs = sys.argv[1:]
    sys.path.insert(0, stubs)
    import sampler_pb2
    import sampler_pb2_grpc

    request = sampler_pb2.Request(temperature=float(temperature), logits=Path(logits).read_bytes())
    data = request.SerializeToString()
    Path(body).write_bytes(b"\0" + len(data).to_bytes(4, "big") + data)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = sampler_pb2_grpc.SamplerStub(channel)
        reply = stub.Sample(request, metadata=[("application", "sampler")], timeout=60)
    print(json.dumps({"id": int.from_bytes(reply.id, "little"), "reply_bytes": 5 + reply.ByteSize()}))
