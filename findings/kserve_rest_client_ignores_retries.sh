#!/usr/bin/env bash
# kserve 0.21.0 (Python SDK): RESTConfig(retries=N) never retries.
#
# Input: InferenceRESTClient(RESTConfig(protocol="v2", retries=3)) asks a port where nobody listens.
# Expected: four attempts to connect: "retries (optional) An integer value indicating the number of retries in case of
# ConnectError or ConnectTimeout. Defaults to 3." (RESTConfig, kserve/inference_client.py)
# Seen: one attempt. RESTConfig.__init__ builds httpx.AsyncHTTPTransport(retries=..., http2=..., cert=..., verify=...) and
# drops it without keeping it, so the client gets httpx's own transport, which does not retry; `cert` is lost likewise.
# Until that changes, callers build the transport themselves and give it as RESTConfig(transport=...).
#
# Exits 0 while this is so, and 1 once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check kserve==0.21.0 httpx==0.28.1
cd "$folder"
venv/bin/python -W ignore - <<'PYTHON'
import asyncio
import socket

import httpx
import kserve
from importlib.metadata import version
from kserve import InferenceRESTClient, RESTConfig

attempts = 0
connect = asyncio.BaseEventLoop.create_connection


async def counting(*args, **kwargs):
    global attempts
    attempts += 1
    return await connect(*args, **kwargs)


asyncio.BaseEventLoop.create_connection = counting


async def tries(client, call):
    """How often a client connects to a port where nobody listens before it gives up."""
    global attempts
    attempts = 0
    try:
        await call(client)
    except httpx.ConnectError:
        return attempts
    raise SystemExit("somebody answered")


async def main():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        own = InferenceRESTClient(RESTConfig(protocol="v2", retries=3))
        by_kserve = await tries(own, lambda client: client.is_server_live(url))
        transport = httpx.AsyncHTTPTransport(retries=3)
        given = InferenceRESTClient(RESTConfig(protocol="v2", transport=transport))
        by_hand = await tries(given, lambda client: client.is_server_live(url))
    return by_kserve, by_hand


by_kserve, by_hand = asyncio.run(main())
print(f"kserve {version('kserve')}, httpx {httpx.__version__}")
print(f"RESTConfig(retries=3):                                             {by_kserve} attempts to connect")
print(f"RESTConfig(transport=httpx.AsyncHTTPTransport(retries=3)):         {by_hand} attempts to connect")
raise SystemExit(0 if (by_kserve, by_hand) == (1, 4) else "retries take effect now: this finding is out of date")
PYTHON
