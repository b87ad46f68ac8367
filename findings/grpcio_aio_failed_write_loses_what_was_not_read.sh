#!/usr/bin/env bash
# grpcio 1.85.1: in grpc.aio a write to a call that has ended loses the replies that were not read, and its status.
#
# Input: a handler reads one message, writes one reply and ends with OK. The client writes one message, and, once the
# handler has ended, a second, before it reads; through grpc's blocking interface and through grpc.aio.
# Expected: as over the blocking interface: the second message goes nowhere, the reply is read, the status is OK. A server
# may end a call while its client still writes, and what it has sent by then arrived.
# Seen: in grpc.aio the second write raises INTERNAL, "Internal error from Core", which becomes the status of the call: the
# reply, which has arrived, can never be read (every read raises INTERNAL), and that the call ended with OK is lost too.
#
# Exits 0 while this is so, and 1 once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check grpcio==1.85.1
cat >"$folder/late.py" <<'PYTHON'
import asyncio
import threading

import grpc

ENDED = threading.Event()


class Answers(grpc.GenericRpcHandler):
    def service(self, _details):
        return grpc.stream_stream_rpc_method_handler(self.answer)

    async def answer(self, _requests, context):
        await context.read()
        await context.write(b"the reply")
        asyncio.get_running_loop().call_later(0.3, ENDED.set)


def blocking(address):
    def messages():
        yield b"first"
        ENDED.wait()
        yield b"second"

    with grpc.insecure_channel(address) as channel:
        call = channel.stream_stream("/a.Service/Method")(messages())
        ENDED.wait()
        return list(call), call.code().name


async def asynchronous(address):
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.stream_stream("/a.Service/Method")()
        await call.write(b"first")
        await asyncio.to_thread(ENDED.wait)
        try:
            await call.write(b"second")
        except grpc.aio.AioRpcError as error:
            print("grpc.aio, second write:", error.code().name, error.details())
        try:
            replies = [await call.read()]
        except grpc.aio.AioRpcError:
            replies = []
        return replies, (await call.code()).name


async def main():
    print("grpcio", grpc.__version__)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Answers(),))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    plain = await asyncio.to_thread(blocking, address)
    print("blocking:", *plain)
    ENDED.clear()
    lost = await asynchronous(address)
    print("grpc.aio:", *lost)
    await server.stop(0)
    return 0 if plain == ([b"the reply"], "OK") and lost == ([], "INTERNAL") else 1


raise SystemExit(asyncio.run(main()))
PYTHON
"$folder/venv/bin/python" "$folder/late.py" || {
	echo "grpc.aio keeps what was not read now: this finding is out of date" >&2
	exit 1
}
