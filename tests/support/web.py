"""Requests of HTTP/1.1 as browsers and curl send them, and the frames of gRPC-Web and of Connect's streams."""

from __future__ import annotations

import http.client


def post(address, body, content_type="application/json", path="/samplerd.v1.SamplerService/Sample", **headers):
    """Send one request; returns its status, headers with names in lower case, and body. `method` replaces POST."""
    method = headers.pop("method", "POST")
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        own = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, {"content-type": content_type, **own})
        reply = connection.getresponse()
        return reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()
    finally:
        connection.close()


def frame(message, flags=0):
    return bytes([flags]) + len(message).to_bytes(4, "big") + message


def frames(body):
    """The frames of a body: flags and content of each."""
    found = []
    while body:
        size = int.from_bytes(body[1:5], "big")
        found.append((body[0], body[5 : 5 + size]))
        body = body[5 + size :]
    return found
