#!/usr/bin/env bash
# grpcio 1.85.1: grpc.keepalive_timeout_ms is not the time after which a server cuts a client that answers no ping.
#
# Input: two grpc.aio servers that ping idle connections after 2 s and wait 5 s for the answer (grpc.keepalive_time_ms,
# grpc.keepalive_timeout_ms), one with grpc.http2.ping_timeout_ms set to 5 s as well; to each a client that begins HTTP/2
# with its preface and empty settings, acknowledges the server's settings, and then is silent, as one whose machine is off.
# Expected: both connections are closed after some 7 s: the timeout is documented as "how long to wait for the ping to be
# acknowledged before the connection is closed", 20 s by default.
# Seen: the first is closed after 62 s, the second after 7 s. A ping has a timeout of its own, a minute by default, which
# the guide to keepalive does not name; only with it does the connection end when keepalive's settings say so.
#
# Takes a minute. Exits 0 while this is so, and 1 once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check grpcio==1.85.1
cat >"$folder/silent.py" <<'PYTHON'
import asyncio
import time

import grpc

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, ACKNOWLEDGED = b"\0\0\0\4\0\0\0\0\0", b"\0\0\0\4\1\0\0\0\0"
KEEPALIVE = [
    ("grpc.keepalive_time_ms", 2_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
]


async def seconds_until_cut(options):
    server = grpc.aio.server(options=options)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(PREFACE + SETTINGS + ACKNOWLEDGED)
    began = time.monotonic()
    try:
        while await asyncio.wait_for(reader.read(4096), 120):
            pass
    except ConnectionError:
        pass
    taken = time.monotonic() - began
    writer.close()
    await server.stop(0)
    return taken


async def main():
    print("grpcio", grpc.__version__)
    plain, with_ping = await asyncio.gather(
        seconds_until_cut(KEEPALIVE), seconds_until_cut([*KEEPALIVE, ("grpc.http2.ping_timeout_ms", 5_000)])
    )
    print(f"keepalive_timeout_ms = 5000: cut after {plain:.0f} s")
    print(f"and http2.ping_timeout_ms = 5000: cut after {with_ping:.0f} s")
    return 0 if plain > 40 and with_ping < 20 else 1


raise SystemExit(asyncio.run(main()))
PYTHON
"$folder/venv/bin/python" "$folder/silent.py" || {
	echo "the keepalive timeout cuts a silent client now: this finding is out of date" >&2
	exit 1
}
