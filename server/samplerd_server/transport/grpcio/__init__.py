"""The transport grpcio: grpc.aio servers on TCP and Unix sockets."""
