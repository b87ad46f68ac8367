"""The reference: the least that a gRPC server in Python can do with a call.

grpc.aio on uvloop, a generic handler, no serializers: it receives the request's bytes, looks at nothing, and answers
with fixed bytes; over a stream, each message with one. Whatever samplerd serves less than this is the cost of decoding,
queueing, drawing and encoding. It has its own process, as samplerd has, and gRPC's own defaults, but for the sharing of
ports.
"""

from __future__ import annotations

import argparse
import asyncio
import signal

import grpc
import uvloop

from benchmarks.load import SAMPLE_PATH, STREAM_PATH


async def serve(port: int, socket_path: str | None, reply: bytes) -> None:
    """Serve until SIGTERM or SIGINT."""

    async def answer(_request: bytes, _context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return reply

    async def answer_each(_requests: object, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        while True:
            message: object = await context.read()
            if message is grpc.aio.EOF:
                return
            await context.write(reply)

    _, service, unary = SAMPLE_PATH.split("/")
    _, _, stream = STREAM_PATH.split("/")
    # grpc reads a missing serializer as identity.
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        unary: grpc.unary_unary_rpc_method_handler(answer),
        stream: grpc.stream_stream_rpc_method_handler(answer_each),
    }
    handler = grpc.method_handlers_generic_handler(service, handlers)
    # Two servers must not share a port by accident: the wrong one would be measured.
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 64 << 20)])
    server.add_generic_rpc_handlers((handler,))
    server.add_insecure_port(f"127.0.0.1:{port}")
    if socket_path is not None:
        server.add_insecure_port(f"unix:{socket_path}")
    await server.start()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await stopped.wait()
    await server.stop(grace=1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="An empty grpc.aio handler.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--socket", help="path of a Unix socket to serve on as well")
    parser.add_argument("--reply", type=bytes.fromhex, required=True, help="the reply's bytes in hexadecimal")
    arguments = parser.parse_args()
    uvloop.run(serve(arguments.port, arguments.socket, arguments.reply))
