"""gRPC: the only package that knows grpc and the generated stubs, and one that knows no torch."""
