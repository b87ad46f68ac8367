"""Call mosec as its users do, with an HTTP client, and write the body of such a call."""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path

import msgpack

if __name__ == "__main__":
    port, logits, temperature, body, _ = sys.argv[1:]
    call = msgpack.packb({"logits": Path(logits).read_bytes(), "temperature": float(temperature)})
    Path(body).write_bytes(call)
    request = urllib.request.Request(f"http://127.0.0.1:{port}/inference", data=call)  # our own server
    with urllib.request.urlopen(request, timeout=60) as reply:  # noqa: S310  # our own server
        answer = reply.read()
    print(json.dumps({"id": int.from_bytes(msgpack.unpackb(answer), "little"), "reply_bytes": len(answer)}))
